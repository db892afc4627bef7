//! Kinds of files.
#![allow(unsafe_code)]

use super::State;
use crate::Errno;
use crate::handle::{self, handle_of, open_by_handle};
use crate::io_uring as ring;
use crate::sys::check;
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use std::os::fd::AsRawFd;
use std::path::Path;

/// `struct epoll_params` of `linux/eventpoll.h`.
#[repr(C)]
#[derive(Default)]
struct EpollParams {
    busy_poll_usecs: u32,
    busy_poll_budget: u16,
    prefer_busy_poll: u8,
    pad: u8,
}

/// `_IOW(0x8a, 1, struct epoll_params)`.
const EPIOCSPARAMS: libc::c_ulong = 0x4008_8a01;
/// `_IOR(0x8a, 2, struct epoll_params)`.
const EPIOCGPARAMS: libc::c_ulong = 0x8008_8a02;

pub(super) fn epoll_params() -> State {
    let trial = || {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut params = EpollParams::default();
        // SAFETY: the kernel writes a struct of this layout, and then reads
        // it; the descriptor is an epoll of this function's own.
        unsafe {
            check(libc::ioctl(epoll.as_raw_fd(), EPIOCGPARAMS, &raw mut params).into())?;
            check(libc::ioctl(epoll.as_raw_fd(), EPIOCSPARAMS, &raw const params).into())
        }
    };
    State::of(trial())
}

/// The kernel's own type information.
pub(super) fn type_information() -> State {
    State::of(rustix::fs::access("/sys/kernel/btf/vmlinux", rustix::fs::Access::READ_OK))
}

/// Whether `/proc/PID/fdinfo` tells of the locks held by a descriptor.
pub(super) fn fdinfo_locks() -> State {
    let trial = || {
        let file = rustix::fs::memfd_create("locked", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        let path = format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd());
        let info = std::fs::read(path)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        match info.windows(6).any(|window| window == b"\nlock:") {
            true => Ok(()),
            false => Err(Errno::OPNOTSUPP),
        }
    };
    State::of(trial())
}

pub(super) fn close_range() -> State {
    // SAFETY: no descriptor has so high a number (the limit is below
    // i32::MAX), so none is closed.
    State::of(check(unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) }))
}

pub(super) fn timerfd_ticks() -> State {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC);
    State::of(timer.and_then(|timer| crate::timerfd::set_ticks(timer, 1)))
}

pub(super) fn file_handles() -> State {
    let root = match rustix::fs::open("/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => root,
        Err(errno) => return State::refused(errno),
    };
    let reopened = handle_of(Path::new("/"))
        .and_then(|(handle, _)| open_by_handle(&root, &handle, OFlags::PATH));
    State::of(reopened.map_err(|error| match error {
        handle::Error::Open { source, .. } | handle::Error::Name { source, .. } => source,
        handle::Error::TooLong { .. } => Errno::OVERFLOW,
    }))
}

pub(super) fn io_uring() -> State {
    let mut params = ring::Params { sq_entries: 1, ..ring::Params::default() };
    State::of(ring::setup(&mut params).map(drop))
}
