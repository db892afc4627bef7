//! A UDP socket whose peer is not there, which it has not been told yet.
//!
//! Verified: the dump is refused, naming the descriptor; the error is still there.
//! CRIU: loses it.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::place::v4;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("error to tell");

fn run(cx: &mut Context) {
    let socket = UdpSocket::bind(v4(cx, 0)).expect("bind");
    socket.connect(v4(cx, 1)).expect("connect");
    socket.send(b"to nobody").expect("send");
    sys::dup2(socket.as_raw_fd(), 42);
    drop(socket);
    // SAFETY: the number was just made, and nobody else has it.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(42) });

    cx.ready_and_wait();

    let error = socket.recv(&mut [0; 9]).err().and_then(|error| error.raw_os_error());
    check_eq!(error, Some(libc::ECONNREFUSED), "receiving");
}
