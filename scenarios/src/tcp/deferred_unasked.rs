//! A connection on which nothing was sent yet, by a listener that waits for that
//! (`TCP_DEFER_ACCEPT`), where nobody has asked for connections to be saved.
//!
//! Verified: the dump is refused, naming the descriptor; it is accepted once something is sent.
//! CRIU: loses it without a word.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use super::pair::{Way, place, set};
use crate::refusals::at_42;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(&["--tcp-close"]).refused("to be accepted");

fn run(cx: &mut Context) {
    let at = place(cx, Way::V4, 0);
    at_42(TcpListener::bind(at).expect("bind").into_raw_fd());
    // SAFETY: the number was just made, and nobody else has it.
    let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(42) });
    set(&listener, (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), 500);
    let mut client = TcpStream::connect(at).expect("connect");

    cx.ready_and_wait();

    client.write_all(b"before").expect("write");
    let (mut server, _) = listener.accept().expect("accept");
    let mut bytes = [0; 6];
    server.read_exact(&mut bytes).expect("read");
    check_eq!(&bytes, b"before", "what was sent");
}
