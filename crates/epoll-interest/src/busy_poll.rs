//! The busy-poll parameters of an epoll.
//!
//! Truth from: `ep_eventpoll_bp_ioctl`, `fs/eventpoll.c`; `ioctl_eventpoll(2)`.
//! Linux 6.9.
//!
//! # Safety
//! Both ioctls move one `struct epoll_params`, 8 bytes, whose layout is
//! compared below.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// How `epoll_wait` polls network devices before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BusyPoll {
    /// For how long, in microseconds, at most `i32::MAX`; 0 for not at all.
    pub usecs: u32,
    /// Most packets in one go; above 64 it takes `CAP_NET_ADMIN` to set. 0
    /// means the kernel's own, 8.
    pub budget: u16,
    /// Whether to keep the device's interrupts off meanwhile.
    pub prefer: bool,
}

/// `struct epoll_params`, `include/uapi/linux/eventpoll.h`.
#[repr(C)]
#[derive(Default)]
struct Params {
    usecs: u32,
    budget: u16,
    prefer: u8,
    pad: u8,
}

const _: () = assert!(size_of::<Params>() == 8);

/// `_IOW(0x8A, 0x01, struct epoll_params)`
const EPIOCSPARAMS: libc::Ioctl = 0x4008_8a01_u32 as libc::Ioctl;
/// `_IOR(0x8A, 0x02, struct epoll_params)`
const EPIOCGPARAMS: libc::Ioctl = 0x8008_8a02_u32 as libc::Ioctl;

impl BusyPoll {
    /// Reads an epoll's parameters; `None` on a kernel that has none.
    ///
    /// # Errors
    /// Those of `ioctl_eventpoll(2)`.
    pub fn get(epoll: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let mut params = Params::default();
        // SAFETY: the kernel writes one `struct epoll_params`.
        let result = unsafe { libc::ioctl(epoll.as_raw_fd(), EPIOCGPARAMS, &raw mut params) };
        let Params { usecs, budget, prefer, pad: _ } = params;
        match result {
            0 => Ok(Some(Self { usecs, budget, prefer: prefer != 0 })),
            _ => match io::Error::last_os_error() {
                // Built without CONFIG_NET_RX_BUSY_POLL, or before 6.9, when
                // an epoll had no ioctls at all.
                error if unknown(&error) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Sets an epoll's parameters.
    ///
    /// # Errors
    /// Those of `ioctl_eventpoll(2)`: `EPERM` for a budget above 64 without
    /// `CAP_NET_ADMIN`, `EINVAL` for a time above `i32::MAX`.
    pub fn set(self, epoll: BorrowedFd<'_>) -> io::Result<()> {
        let Self { usecs, budget, prefer } = self;
        let params = Params { usecs, budget, prefer: prefer.into(), pad: 0 };
        // SAFETY: the kernel reads one `struct epoll_params`.
        let result = unsafe { libc::ioctl(epoll.as_raw_fd(), EPIOCSPARAMS, &raw const params) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP))
}
