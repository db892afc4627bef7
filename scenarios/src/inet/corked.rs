//! A UDP socket that holds back a datagram.
//!
//! Verified: the dump is refused, naming the descriptor; the datagram is whole when it is sent.
//! CRIU: refuses.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::place::{set, v4};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("held back");

const CORK: (i32, i32) = (libc::IPPROTO_UDP, libc::UDP_CORK);

fn run(cx: &mut Context) {
    let socket = UdpSocket::bind(v4(cx, 0)).expect("bind");
    let other = UdpSocket::bind(v4(cx, 1)).expect("bind");
    sys::dup2(socket.as_raw_fd(), 42);
    drop(socket);
    // SAFETY: the number was just made, and nobody else has it.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(42) });
    set(&socket, CORK, 1);
    socket.send_to(b"one ", v4(cx, 1)).expect("send");

    cx.ready_and_wait();

    check_eq!(socket.send_to(b"datagram", v4(cx, 1)).ok(), Some(8), "sending more");
    set(&socket, CORK, 0);
    let mut bytes = [0; 20];
    check_eq!(other.recv(&mut bytes).ok(), Some(12), "receiving");
    check_eq!(bytes[..12], b"one datagram"[..], "what came");
}
