//! A connection that has sent a byte out of band which its peer cannot take yet.
//!
//! Verified: the dump is refused, naming the descriptor; the byte comes out of band.
//! CRIU: has it come in band.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::pair::{OPTIONS, Way, connected, set};
use crate::context::until;
use crate::refusals::at_42;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).refused("out of band");

fn run(cx: &mut Context) {
    let (_, client, server) = connected(cx, Way::V4, 0);
    at_42(client.into_raw_fd());
    // SAFETY: the number was just made, and nobody else has it.
    let mut client = TcpStream::from(unsafe { OwnedFd::from_raw_fd(42) });
    client.set_nonblocking(true).expect("FIONBIO");
    // As much as fits; what is left is then enough for one more byte.
    let full = loop {
        if let Err(error) = client.write_all(&[b'a'; 4096]) {
            break error.kind();
        }
    };
    check_eq!(full, ErrorKind::WouldBlock, "filling it");
    set(&client, (libc::SOL_SOCKET, libc::SO_SNDBUF), 8 << 20);
    check_eq!(send(&client, b"!", SendFlags::OOB), Ok(1), "sending out of band");

    cx.ready_and_wait();

    server.set_nonblocking(true).expect("FIONBIO");
    let (mut byte, mut bytes) = ([0], vec![0; 1 << 16]);
    until("the byte", || {
        let _ = (&server).read(&mut bytes);
        recv(&server, &mut byte[..], RecvFlags::OOB).is_ok()
    });
    check_eq!(&byte, b"!", "the byte out of band");
}
