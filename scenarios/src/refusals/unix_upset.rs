//! One end of a pair of datagram sockets whose other end has left without reading all: an error is to be told of
//! a peer that has no name.
//!
//! Verified: the dump is refused, naming the socket; the error is told.
//! CRIU: loses the error.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use crate::unix::talk::{DATAGRAM, option, pair, send};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("unix socket");

fn run(cx: &mut Context) {
    let (end, other) = pair(DATAGRAM);
    send(&end, b"unread", &[]);
    rustix::net::connect_unspec(&other).expect("connect to nobody");
    super::at_42(end.into_raw_fd());

    cx.ready_and_wait();

    // SAFETY: the number has been this descriptor's all along.
    let end = unsafe { OwnedFd::from_raw_fd(42) };
    check_eq!(option(&end, libc::SO_ERROR), libc::ECONNRESET, "the error");
}
