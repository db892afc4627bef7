//! What the scenarios about epolls have in common: an epoll under test, and numbers that a scenario
//! gives out itself.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::{Errno, read, write};

use crate::sys;

pub(crate) const IN: u32 = libc::EPOLLIN as u32;
pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
pub(crate) const ERR: u32 = libc::EPOLLERR as u32;
pub(crate) const HUP: u32 = libc::EPOLLHUP as u32;
pub(crate) const EDGE: u32 = libc::EPOLLET as u32;
pub(crate) const ONCE: u32 = libc::EPOLLONESHOT as u32;
pub(crate) const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;

/// What an epoll reports that has nothing to report.
pub(crate) const NOTHING: [(u64, u32); 0] = [];

/// An epoll.
pub(crate) struct Epoll<F = OwnedFd>(pub(super) F);

impl<F: AsFd> AsFd for Epoll<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Epoll {
    pub(crate) fn new() -> Self {
        Self(epoll::create(CreateFlags::CLOEXEC).expect("epoll_create1"))
    }
}

impl<F: AsFd> Epoll<F> {
    /// `EPOLL_CTL_ADD` under the number that `file` is given by.
    #[track_caller]
    pub(crate) fn add(&self, file: impl AsFd, events: u32, data: u64) {
        let flags = EventFlags::from_bits_retain(events);
        epoll::add(&self.0, file, EventData::new_u64(data), flags).expect("EPOLL_CTL_ADD");
    }

    /// `EPOLL_CTL_ADD`, which may be refused.
    pub(crate) fn try_add(&self, file: impl AsFd, events: u32, data: u64) -> Result<(), Errno> {
        let flags = EventFlags::from_bits_retain(events);
        epoll::add(&self.0, file, EventData::new_u64(data), flags)
    }

    /// `EPOLL_CTL_MOD`.
    pub(crate) fn modify(&self, file: impl AsFd, events: u32, data: u64) -> Result<(), Errno> {
        let flags = EventFlags::from_bits_retain(events);
        epoll::modify(&self.0, file, EventData::new_u64(data), flags)
    }

    /// `EPOLL_CTL_DEL`.
    pub(crate) fn delete(&self, file: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.0, file)
    }

    /// All that is reported now, as data and events, in order.
    pub(crate) fn take(&self) -> Vec<(u64, u32)> {
        self.take_some(4096)
    }

    /// The first of what is reported now.
    pub(crate) fn take_some(&self, most: usize) -> Vec<(u64, u32)> {
        let mut found: Vec<epoll::Event> = Vec::with_capacity(most);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.0, spare_capacity(&mut found), Some(&at_once)).expect("epoll_wait");
        found.into_iter().map(|epoll::Event { flags, data }| (data.u64(), flags.bits())).collect()
    }
}

/// An eventfd that does not block, with this count.
pub(crate) fn event(count: u32) -> OwnedFd {
    eventfd(count, EventfdFlags::NONBLOCK).expect("eventfd")
}

/// Makes an eventfd signal.
#[track_caller]
pub(crate) fn rouse(event: impl AsFd) {
    check_eq!(write(event, &1_u64.to_ne_bytes()), Ok(8), "writing to an eventfd");
}

/// Empties an eventfd.
#[track_caller]
pub(crate) fn calm(event: impl AsFd) {
    check_eq!(read(event, &mut [0; 8]), Ok(8), "reading an eventfd");
}

/// Puts the file under a number of its own, until [`sys::close`].
pub(crate) fn plant(file: impl AsFd, number: i32) {
    sys::dup2(file.as_fd().as_raw_fd(), number);
}

/// What a number stands for now.
pub(crate) fn at(number: i32) -> BorrowedFd<'static> {
    // SAFETY: a number that scenarios give out themselves, which no object owns: while it stands for
    // nothing, calls with it say so.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// The epoll under a number.
pub(crate) fn at_epoll(number: i32) -> Epoll<BorrowedFd<'static>> {
    Epoll(at(number))
}

/// A signalfd for a signal, which is blocked.
pub(crate) fn signalfd(signal: i32) -> OwnedFd {
    let mask = sys::sigset(&[signal]);
    sys::block(mask);
    let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
    // SAFETY: the mask lives over the call and has the eight bytes stated; the result is nobody else's.
    unsafe {
        let fd = libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8usize, flags);
        OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor"))
    }
}

/// Takes a signal out of a signalfd.
#[track_caller]
pub(crate) fn take_signal(file: impl AsFd) {
    check_eq!(read(file, &mut [0; 128]), Ok(128), "reading a signalfd");
}

/// From now on this thread has an fd table of its own.
pub(crate) fn unshare_files() {
    // SAFETY: what this thread does with numbers from here on it does in its own copy.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0, "unshare(CLONE_FILES)");
}

/// `epoll_wait(2)` without end: data and events, or the error's number.
pub(crate) fn wait(epoll: i32, most: i32) -> Result<Vec<(u64, u32)>, i32> {
    wait_by(libc::SYS_epoll_wait, epoll, most, None)
}

/// The same by one of the three calls; the two that take a mask block these signals meanwhile.
pub(crate) fn wait_by(
    call: libc::c_long,
    epoll: i32,
    most: i32,
    mask: Option<u64>,
) -> Result<Vec<(u64, u32)>, i32> {
    wait_for(call, epoll, most, mask, None)
}

/// The same for a time.
pub(crate) fn wait_for(
    call: libc::c_long,
    epoll: i32,
    most: i32,
    mask: Option<u64>,
    time: Option<Duration>,
) -> Result<Vec<(u64, u32)>, i32> {
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; most as usize];
    let at = events.as_mut_ptr();
    let mask = mask.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let millis = time.map_or(-1, |time| time.as_millis() as i32);
    let time = time.map(|time| libc::timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: room for `most` events; all lives over the call. `epoll_wait` looks at the first four.
    let result = sys::done(unsafe {
        match call {
            libc::SYS_epoll_pwait2 => libc::syscall(call, epoll, at, most, time, mask, 8usize),
            _ => libc::syscall(call, epoll, at, most, millis, mask, 8usize),
        }
    });
    let count = result.map_err(|error| error.raw_os_error().unwrap_or(0))?;
    Ok(events[..count as usize].iter().map(|event| (event.u64, event.events)).collect())
}
