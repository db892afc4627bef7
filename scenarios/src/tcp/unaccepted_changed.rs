//! A connection that waits to be accepted with options that its listener has no more.
//!
//! Verified: the dump is refused, naming the descriptor; it is accepted, with what was sent.
//! CRIU: refuses it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use super::pair::{OPTIONS, Way, place, set};
use crate::refusals::at_42;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).refused("to be accepted");

fn run(cx: &mut Context) {
    let at = place(cx, Way::V4, 0);
    at_42(TcpListener::bind(at).expect("bind").into_raw_fd());
    // SAFETY: the number was just made, and nobody else has it.
    let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(42) });
    let mut client = TcpStream::connect(at).expect("connect");
    client.write_all(b"before").expect("write");
    set(&listener, (libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);

    cx.ready_and_wait();

    let (mut server, _) = listener.accept().expect("accept");
    let mut bytes = [0; 6];
    server.read_exact(&mut bytes).expect("read");
    check_eq!(&bytes, b"before", "what was sent");
}
