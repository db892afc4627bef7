//! `poll` without end, on two pipes.
//!
//! Verified: it stays blocked until there is a byte, and then returns 1 with `POLLIN` on that pipe; blocked signals are as before.
//! CRIU: returns `EINTR`.

use std::os::fd::AsRawFd;

use rustix::io::write;
use rustix::pipe::pipe;

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let ((one, _to_one), (two, to_two)) = (pipe().expect("pipe"), pipe().expect("pipe"));
    let wait = move || {
        let item = |fd: &dyn AsRawFd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 9,
        };
        let mut items = [item(&one), item(&two)];
        // SAFETY: two items, which live over the call.
        let result = unsafe { libc::syscall(libc::SYS_poll, items.as_mut_ptr(), 2, -1) };
        (outcome(result), items.map(|i| i.revents))
    };
    until_woken(cx, libc::SYS_poll, &(Ok(1), [0, libc::POLLIN]), wait, |_| {
        check_eq!(write(&to_two, b"x"), Ok(1), "write");
    });
}
