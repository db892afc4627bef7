//! An open TCP connection.
//!
//! Verified: the dump is refused, naming the descriptor; the connection goes on.
//! CRIU: takes --tcp-established.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::place::v4;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("TCP connection");

fn run(cx: &mut Context) {
    let listener = TcpListener::bind(v4(cx, 0)).expect("bind");
    let client = TcpStream::connect(v4(cx, 0)).expect("connect");
    let (mut server, _) = listener.accept().expect("accept");
    let raw = client.as_raw_fd();
    sys::dup2(raw, 42);
    drop(client);
    // It stands before the other end in the table, so it is met first.
    sys::dup2(server.as_raw_fd(), 43);
    drop(std::mem::replace(&mut server, {
        // SAFETY: the number was just made, and nobody else has it.
        TcpStream::from(unsafe { OwnedFd::from_raw_fd(43) })
    }));
    // SAFETY: as above.
    let mut client = TcpStream::from(unsafe { OwnedFd::from_raw_fd(42) });

    cx.ready_and_wait();

    client.write_all(b"still here").expect("write");
    let mut bytes = [0; 10];
    server.read_exact(&mut bytes).expect("read");
    check_eq!(&bytes, b"still here", "what came");
}
