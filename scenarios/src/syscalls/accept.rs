//! `accept` on a listening unix socket.
//!
//! Verified: it stays blocked until somebody connects, and then returns a descriptor; blocked signals are as before.
//! CRIU: works.

use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).needs(&["sockets"]);

fn run(cx: &mut Context) {
    let path = cx.path("socket");
    let listener = UnixListener::bind(&path).expect("bind");
    let wait = move || {
        // SAFETY: no address is asked for.
        outcome(unsafe { libc::syscall(libc::SYS_accept4, listener.as_raw_fd(), 0, 0, 0) })
            .map(|fd| fd > 2)
    };
    let mut stream = None;
    until_woken(cx, libc::SYS_accept4, &Ok(true), wait, |_| {
        stream = UnixStream::connect(&path).ok()
    });
    check!(stream.is_some(), "connecting");
}
