//! A UDP socket with a datagram in its queue.
//!
//! Verified: the dump is refused, naming the descriptor; the datagram is still there.
//! CRIU: loses it.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::place::v4;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("datagrams wait");

fn run(cx: &mut Context) {
    let socket = UdpSocket::bind(v4(cx, 0)).expect("bind");
    socket.send_to(b"to itself", v4(cx, 0)).expect("send");
    sys::dup2(socket.as_raw_fd(), 42);
    drop(socket);
    // SAFETY: the number was just made, and nobody else has it.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(42) });

    cx.ready_and_wait();

    let mut bytes = [0; 20];
    check_eq!(socket.recv(&mut bytes).ok(), Some(9), "receiving");
    check_eq!(bytes[..9], b"to itself"[..], "what came");
}
