//! `io_uring_setup(2)` and what follows it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::done;

/// Ways to set it up.
pub(crate) const CQSIZE: u32 = 1 << 3;
pub(crate) const R_DISABLED: u32 = 1 << 6;
pub(crate) const SUBMIT_ALL: u32 = 1 << 7;
pub(crate) const COOP_TASKRUN: u32 = 1 << 8;
pub(crate) const TASKRUN_FLAG: u32 = 1 << 9;
pub(crate) const SQE128: u32 = 1 << 10;
pub(crate) const CQE32: u32 = 1 << 11;
pub(crate) const SINGLE_ISSUER: u32 = 1 << 12;
pub(crate) const DEFER_TASKRUN: u32 = 1 << 13;
pub(crate) const NO_SQARRAY: u32 = 1 << 16;

/// Requests.
pub(crate) const NOP: u8 = 0;
pub(crate) const POLL_ADD: u8 = 6;
pub(crate) const TIMEOUT: u8 = 11;
pub(crate) const TIMEOUT_REMOVE: u8 = 12;
pub(crate) const ACCEPT: u8 = 13;
pub(crate) const READ: u8 = 22;
pub(crate) const RECV: u8 = 27;
pub(crate) const MSG_RING: u8 = 40;
pub(crate) const FUTEX_WAIT: u8 = 51;
pub(crate) const FUTEX_WAKE: u8 = 52;
/// What can be registered.
pub(crate) const REGISTER_FILES: u32 = 2;
pub(crate) const REGISTER_EVENTFD: u32 = 4;
pub(crate) const REGISTER_FILES_UPDATE: u32 = 6;
pub(crate) const REGISTER_EVENTFD_ASYNC: u32 = 7;
pub(crate) const REGISTER_RING_FDS: u32 = 20;
/// `IOSQE_FIXED_FILE`.
pub(crate) const FIXED: u8 = 1;
/// `IOSQE_IO_LINK`.
pub(crate) const LINK: u8 = 1 << 2;
/// `IOSQE_CQE_SKIP_SUCCESS`.
pub(crate) const SKIP: u8 = 1 << 6;

const SQES: i64 = 0x1000_0000;
const GETEVENTS: u32 = 1;

/// A ring. It lasts as long as the process.
pub(crate) struct Ring {
    fd: OwnedFd,
    /// `struct io_uring_params`.
    params: [u32; 30],
    rings: *mut u8,
    requests: *mut u8,
}

/// `struct io_uring_sqe`, the beginning of it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Request {
    pub(crate) operation: u8,
    pub(crate) flags: u8,
    pub(crate) priority: u16,
    pub(crate) fd: i32,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) operation_flags: u32,
    pub(crate) data: u64,
    pub(crate) buffer: u16,
    pub(crate) personality: u16,
    pub(crate) file: u32,
    pub(crate) more: [u64; 2],
}

/// `struct io_uring_cqe`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Ring {
    /// For so many requests at a time, and completions if that is not 0.
    pub(crate) fn setup(requests: u32, completions: u32, flags: u32) -> io::Result<Self> {
        let mut params = [0_u32; 30];
        params[1] = completions;
        params[2] = flags | if completions == 0 { 0 } else { CQSIZE };
        // SAFETY: the parameters have 120 bytes and live over the call.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, requests, params.as_mut_ptr()) };
        let fd = done(fd)?;
        // SAFETY: the kernel has just made it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let request = if flags & SQE128 == 0 { 64 } else { 128 };
        let completion = if flags & CQE32 == 0 { 16 } else { 32 };
        let (array, completions) = (params[16], params[25]);
        let queue = completions + completion * params[1];
        let rings = queue.max(array + 4 * params[0]) as usize;
        let map = |len: usize, offset: i64| {
            let (prot, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            let flags = shared | libc::MAP_POPULATE;
            // SAFETY: the kernel finds the place.
            unsafe {
                libc::mmap(std::ptr::null_mut(), len, prot, flags, fd.as_raw_fd(), offset).cast()
            }
        };
        let (rings, requests) = (map(rings, 0), map(request * params[0] as usize, SQES));
        Ok(Self { fd, params, rings, requests })
    }

    /// The same under another number.
    pub(crate) fn at(mut self, number: i32) -> Self {
        super::dup2(self.fd.as_raw_fd(), number);
        // SAFETY: it was made just now, over one that nobody has.
        self.fd = unsafe { OwnedFd::from_raw_fd(number) };
        self
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Where it is mapped.
    pub(crate) fn places(&self) -> [usize; 2] {
        [self.rings as usize, self.requests as usize]
    }

    fn word(&self, at: u32) -> *mut u32 {
        self.rings.wrapping_add(at as usize).cast()
    }

    fn load(&self, at: u32) -> u32 {
        // SAFETY: the places that the kernel named are mapped.
        unsafe { self.word(at).read_volatile() }
    }

    fn store(&self, at: u32, value: u32) {
        // SAFETY: as above.
        unsafe { self.word(at).write_volatile(value) }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    fn has(&self, flag: u32) -> bool {
        self.params[2] & flag != 0
    }

    /// Head and tail of the submission queue and the completion queue, and how many requests were
    /// dropped and completions lost.
    pub(crate) fn counts(&self) -> [u32; 6] {
        [10, 11, 20, 21, 15, 24].map(|number| self.load(self.params[number]))
    }

    /// Puts a request into the queue.
    pub(crate) fn push(&self, request: &Request) {
        let tail = self.load(self.params[11]);
        let place = tail & (self.params[0] - 1);
        let shift = if self.has(SQE128) { 7 } else { 6 };
        // SAFETY: it is one of the places of the queue.
        unsafe {
            let to = self.requests.wrapping_add((place as usize) << shift);
            to.cast::<Request>().write_volatile(*request);
        }
        if !self.has(NO_SQARRAY) {
            self.store(self.params[16] + 4 * place, place);
        }
        self.store(self.params[11], tail.wrapping_add(1));
    }

    /// Has `count` requests taken, and waits for `least` completions.
    pub(crate) fn enter(&self, count: u32, least: u32) -> io::Result<i64> {
        // SAFETY: no memory is passed.
        done(unsafe {
            let (fd, none) = (self.fd.as_raw_fd(), std::ptr::null::<u8>());
            libc::syscall(libc::SYS_io_uring_enter, fd, count, least, GETEVENTS, none, 0_usize)
        })
    }

    /// Waits for a completion, for no longer than this.
    pub(crate) fn enter_for(&self, time: Duration) -> io::Result<i64> {
        const EXTENDED: u32 = 1 << 3;
        let time = [time.as_secs(), time.subsec_nanos().into()];
        // `struct io_uring_getevents_arg`: no signal mask, and the time.
        let with = [0, 0, time.as_ptr() as u64];
        // SAFETY: both live over the call, and are as long as the kernel takes them for.
        done(unsafe {
            let (fd, flags) = (self.fd.as_raw_fd(), GETEVENTS | EXTENDED);
            libc::syscall(libc::SYS_io_uring_enter, fd, 0, 1, flags, with.as_ptr(), 24_usize)
        })
    }

    /// Has nothing taken, by a name that is registered.
    pub(crate) fn enter_named(&self, name: u32) -> io::Result<i64> {
        const REGISTERED_RING: u32 = 1 << 4;
        // SAFETY: no memory is passed.
        done(unsafe {
            let (flags, none) = (REGISTERED_RING, std::ptr::null::<u8>());
            libc::syscall(libc::SYS_io_uring_enter, name, 0, 0, flags, none, 0_usize)
        })
    }

    /// Calls `io_uring_register(2)`.
    pub(crate) fn register<T>(&self, what: u32, with: &[T], count: u32) -> io::Result<i64> {
        let with = if with.is_empty() { std::ptr::null() } else { with.as_ptr() };
        // SAFETY: what is passed lives over the call, and is what the caller says it is.
        done(unsafe {
            libc::syscall(libc::SYS_io_uring_register, self.fd.as_raw_fd(), what, with, count)
        })
    }

    /// The next completion that is there.
    pub(crate) fn next(&self) -> Option<Completion> {
        let [_, _, head, tail, ..] = self.counts();
        if head == tail {
            return None;
        }
        let shift = if self.has(CQE32) { 5 } else { 4 };
        let place = (head & (self.params[1] - 1)) << shift;
        // SAFETY: it is one of the places of the queue.
        let completion =
            unsafe { self.word(self.params[25] + place).cast::<Completion>().read_volatile() };
        self.store(self.params[20], head.wrapping_add(1));
        Some(completion)
    }

    /// Makes a request and waits for its completion, which must be the next.
    #[track_caller]
    pub(crate) fn round(&self, data: u64) {
        self.push(&Request { operation: NOP, data, ..Request::default() });
        check_eq!(self.enter(1, 1).ok(), Some(1), "requests taken");
        let expected = Completion { data, result: 0, flags: 0 };
        check_eq!(self.next(), Some(expected), "completion");
    }
}
