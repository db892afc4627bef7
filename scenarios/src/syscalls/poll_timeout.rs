//! `poll` of a pipe that stays empty, with a timeout.
//!
//! Verified: it returns 0, no earlier than asked and not as if begun anew.
//! CRIU: returns `EINTR`.

use std::os::fd::AsRawFd;

use rustix::pipe::pipe;

use super::blocking::{WAIT, for_a_time, outcome};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (reader, _writer) = pipe().expect("pipe");
    for_a_time(cx, libc::SYS_poll, &(Ok(0), 0), move || {
        let mut item = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 99 };
        // SAFETY: one item, which lives over the call.
        let result =
            unsafe { libc::syscall(libc::SYS_poll, &raw mut item, 1, WAIT.as_millis() as i32) };
        (outcome(result), item.revents)
    });
}
