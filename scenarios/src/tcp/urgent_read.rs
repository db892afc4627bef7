//! A connection with bytes to be read before and behind one that came out of band and was read.
//!
//! Verified: the dump is refused, naming the descriptor; the bytes are still there.
//! CRIU: loses those behind it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::pair::{OPTIONS, Way, connected};
use crate::context::until;
use crate::refusals::at_42;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).refused("out of band");

fn run(cx: &mut Context) {
    let (_, client, mut server) = connected(cx, Way::V4, 0);
    at_42(client.into_raw_fd());
    // SAFETY: the number was just made, and nobody else has it.
    let mut client = TcpStream::from(unsafe { OwnedFd::from_raw_fd(42) });
    server.write_all(b"before").expect("write");
    check_eq!(send(&server, b"!", SendFlags::OOB), Ok(1), "sending out of band");
    server.write_all(b"behind").expect("write");
    let mut byte = [0];
    until("the byte", || recv(&client, &mut byte[..], RecvFlags::OOB).is_ok());
    check_eq!(&byte, b"!", "the byte out of band");

    cx.ready_and_wait();

    let mut bytes = [0; 12];
    client.read_exact(&mut bytes).expect("read");
    check_eq!(&bytes, b"beforebehind", "what came in band");
}
