//! Epolls with and without close-on-exec, by `epoll_create1`, `epoll_create` and `dup`.
//!
//! Verified: the flag of every number; that a number without it lives on over an exec, with its items.
//! CRIU: works.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{Epoll, IN, at, at_epoll, event, plant};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let close_on_exec = Epoll::new();
    // SAFETY: a plain number; the result is this program's own.
    let plain = unsafe { libc::epoll_create(1) };
    plant(at(plain), 60);
    plant(&close_on_exec, 61);
    let flags = |number: i32| {
        // SAFETY: a plain flag of a number.
        unsafe { libc::fcntl(number, libc::F_GETFD) }
    };
    let file = event(1);
    at_epoll(60).add(&file, IN, 6);

    cx.ready_and_wait();

    check_eq!(flags(close_on_exec.as_fd().as_raw_fd()), libc::FD_CLOEXEC, "epoll_create1");
    check_eq!(flags(plain), 0, "epoll_create");
    check_eq!(flags(61), 0, "a duplicate");
    check_eq!(at_epoll(plain).take(), [(6, IN)], "by its first number");
    let script = "test -e /proc/self/fd/60 && test -e /proc/self/fd/61 && exit 7";
    let status = std::process::Command::new("/bin/sh").args(["-c", script]).status();
    check_eq!(status.ok().and_then(|status| status.code()), Some(7), "over an exec");
}
