//! `ppoll` of a pipe that stays empty, with a timeout and a signal mask. The kernel writes the remaining
//! time back.
//!
//! Verified: it returns 0, with no time remaining, no earlier than asked and not as if begun anew.
//! CRIU: works, waiting for the time remaining.

use std::os::fd::AsRawFd;

use rustix::pipe::pipe;

use super::blocking::{for_a_time, outcome, wait_time};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (reader, _writer) = pipe().expect("pipe");
    for_a_time(cx, libc::SYS_ppoll, &(Ok(0), (0, 0), 0), move || {
        let mut item = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 99 };
        let (mut time, mask) = (wait_time(), sys::sigset(&[libc::SIGUSR1]));
        // SAFETY: all three live over the call; the mask has eight bytes.
        let result = unsafe {
            libc::syscall(libc::SYS_ppoll, &raw mut item, 1, &raw mut time, &raw const mask, 8usize)
        };
        (outcome(result), (time.tv_sec, time.tv_nsec), item.revents)
    });
}
