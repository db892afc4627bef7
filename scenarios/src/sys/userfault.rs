//! Userfaultfds (`userfaultfd(2)`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Area, PAGE, done};
use crate::User;

/// `UFFDIO_REGISTER_MODE_*`.
pub(crate) const MISSING: u64 = 1;
pub(crate) const PROTECTED: u64 = 2;
pub(crate) const MINOR: u64 = 4;

/// `UFFD_FEATURE_*`.
pub(crate) const MISSING_SHMEM: u64 = 1 << 5;
pub(crate) const MINOR_SHMEM: u64 = 1 << 10;
pub(crate) const WP_SHMEM: u64 = 1 << 12;
pub(crate) const WP_UNPOPULATED: u64 = 1 << 13;

const USER_MODE_ONLY: i32 = 1;
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_WAKE: libc::c_ulong = 0x8010_aa02;
const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
const UFFDIO_WRITEPROTECT: libc::c_ulong = 0xc018_aa06;
const UFFDIO_CONTINUE: libc::c_ulong = 0xc020_aa07;

/// A userfaultfd.
pub(crate) struct Userfaultfd(OwnedFd);

/// A fault that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `UFFD_PAGEFAULT_FLAG_*`.
    pub(crate) flags: u64,
    /// Where.
    pub(crate) address: usize,
}

impl Userfaultfd {
    /// One that takes the privileges that a user has, not in use yet.
    pub(crate) fn new(user: User, flags: i32) -> io::Result<Self> {
        let only = if user == User::Root { 0 } else { USER_MODE_ONLY };
        // SAFETY: plain numbers.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, only | flags) };
        // SAFETY: the kernel has just made it.
        done(fd).map(|fd| Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// One in use that does not wait.
    pub(crate) fn ready(user: User, features: u64) -> Self {
        let own = Self::new(user, libc::O_NONBLOCK | libc::O_CLOEXEC).expect("userfaultfd");
        own.begin(features).expect("UFFDIO_API");
        own
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(crate) fn begin(&self, features: u64) -> io::Result<[u64; 3]> {
        let mut api = [0xaa, features, 0];
        self.ask(UFFDIO_API, &mut api).map(|_| api)
    }

    fn ask(&self, request: libc::c_ulong, with: &mut [u64]) -> io::Result<i64> {
        // SAFETY: the structures of these calls are words, of which there are as many; pages that
        // are filled have nothing in them that anybody refers to.
        done(unsafe { libc::ioctl(self.0.as_raw_fd(), request, with.as_mut_ptr()) })
    }

    pub(crate) fn register(&self, area: Area, modes: u64) -> io::Result<i64> {
        self.ask(UFFDIO_REGISTER, &mut [area.start() as u64, area.len() as u64, modes, 0])
    }

    /// Fills pages with the contents of others.
    pub(crate) fn copy(&self, to: Area, from: Area) -> io::Result<i64> {
        let (to, from, len) = (to.start() as u64, from.start() as u64, to.len() as u64);
        self.ask(UFFDIO_COPY, &mut [to, from, len, 0, 0])
    }

    pub(crate) fn zero(&self, area: Area) -> io::Result<i64> {
        self.ask(UFFDIO_ZEROPAGE, &mut [area.start() as u64, area.len() as u64, 0, 0])
    }

    pub(crate) fn protect(&self, area: Area, protected: bool) -> io::Result<i64> {
        let (start, len) = (area.start() as u64, area.len() as u64);
        self.ask(UFFDIO_WRITEPROTECT, &mut [start, len, protected.into()])
    }

    pub(crate) fn go_on(&self, area: Area) -> io::Result<i64> {
        self.ask(UFFDIO_CONTINUE, &mut [area.start() as u64, area.len() as u64, 0, 0])
    }

    pub(crate) fn wake(&self, area: Area) -> io::Result<i64> {
        self.ask(UFFDIO_WAKE, &mut [area.start() as u64, area.len() as u64])
    }

    /// The next fault, if there is one. Other messages are none that is expected.
    pub(crate) fn next(&self) -> Option<Fault> {
        const PAGE_FAULT: u8 = 0x12;
        let mut message = [0; 32];
        let len = rustix::io::read(&self.0, &mut message[..]).ok()?;
        check_eq!((len, message[0]), (32, PAGE_FAULT), "length and kind of a message");
        let word = |at: usize| u64::from_ne_bytes(message[at..at + 8].try_into().expect("eight"));
        Some(Fault { flags: word(8), address: word(16) as usize & !(PAGE - 1) })
    }

    /// Waits for the next fault in an area; those elsewhere come again.
    pub(crate) fn await_fault(&self, area: Area, flags: u64) {
        let expected = Fault { flags, address: area.start() };
        crate::context::until("a fault", || match self.next() {
            None => false,
            Some(fault) => {
                if fault != expected {
                    // It is made again, and told again.
                    self.wake(Area::mapped(fault.address, PAGE)).expect("UFFDIO_WAKE");
                }
                fault == expected
            }
        });
    }
}

impl AsFd for Userfaultfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether there are none.
pub(crate) fn no_userfaultfd() -> Option<String> {
    let works = Userfaultfd::new(User::Ordinary, 0).is_ok();
    (!works).then(|| "userfaultfd is not available".into())
}
