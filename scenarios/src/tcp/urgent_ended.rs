//! A connection that was reset, and has a byte that came out of band.
//!
//! Verified: the dump is refused, naming the descriptor; the bytes before it are still there.
//! CRIU: loses all of them.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::pair::{OPTIONS, Way, connected};
use crate::context::until;
use crate::inet::place::set_bytes;
use crate::refusals::at_42;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).refused("out of band");

const LINGER: (i32, i32) = (libc::SOL_SOCKET, libc::SO_LINGER);

fn run(cx: &mut Context) {
    let (_, client, mut server) = connected(cx, Way::V4, 0);
    at_42(client.into_raw_fd());
    // SAFETY: the number was just made, and nobody else has it.
    let client = TcpStream::from(unsafe { OwnedFd::from_raw_fd(42) });
    let reports = |flag| {
        let mut polled = [PollFd::new(&client, flag)];
        poll(&mut polled, Some(&Timespec::default())).expect("poll");
        polled[0].revents().contains(flag)
    };
    server.write_all(b"before").expect("write");
    check_eq!(send(&server, b"!", SendFlags::OOB), Ok(1), "sending out of band");
    until("the byte", || reports(PollFlags::PRI));
    // Closed like this, it is reset.
    set_bytes(&server, LINGER, [1_u32, 0].map(u32::to_ne_bytes).as_flattened());
    drop(server);
    until("the reset", || reports(PollFlags::ERR));

    cx.ready_and_wait();

    let mut bytes = [0; 8];
    let read = recv(&client, &mut bytes[..], RecvFlags::empty()).map(|it| it.0);
    check_eq!(read, Ok(6), "what came before it");
}
