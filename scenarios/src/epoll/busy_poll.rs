//! The busy-poll parameters of an epoll (`EPIOCSPARAMS`, Linux 6.9).
//!
//! Verified: they read as they were set, and those of another epoll as they were never set.
//! CRIU: drops them.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::Epoll;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(cannot_be_set).dump_faults();

/// `struct epoll_params` (`include/uapi/linux/eventpoll.h`).
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Params {
    usecs: u32,
    budget: u16,
    prefer: u8,
    pad: u8,
}

/// `_IOW(0x8A, 0x01, struct epoll_params)` and `_IOR(0x8A, 0x02, ...)`.
const SET: libc::c_ulong = 0x4008_8a01;
const GET: libc::c_ulong = 0x8008_8a02;

fn set(epoll: &Epoll, params: Params) -> bool {
    // SAFETY: the kernel reads the structure, which lives over the call.
    unsafe { libc::ioctl(epoll.as_fd().as_raw_fd(), SET, &raw const params) == 0 }
}

fn get(epoll: &Epoll) -> Option<Params> {
    let mut params = Params::default();
    // SAFETY: the kernel writes the structure.
    let done = unsafe { libc::ioctl(epoll.as_fd().as_raw_fd(), GET, &raw mut params) == 0 };
    done.then_some(params)
}

fn cannot_be_set() -> Option<String> {
    get(&Epoll::new()).is_none().then(|| "the kernel has no busy-poll parameters of epolls".into())
}

fn run(cx: &mut Context) {
    let (with, without) = (Epoll::new(), Epoll::new());
    let params = Params { usecs: 123_456, budget: 8, prefer: 1, pad: 0 };
    check!(set(&with, params), "setting them");

    cx.ready_and_wait();

    check_eq!(get(&with), Some(params), "what was set");
    check_eq!(get(&without), Some(Params::default()), "what was not");
}
