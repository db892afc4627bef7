//! A packet socket with a packet to be read.
//!
//! Verified: the dump is refused, naming the descriptor; the packet is still there.
//! CRIU: loses it.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use rustix::net::SocketType;

use super::sockets::{all, bound, packet, send};
use crate::facts::Users;
use crate::refusals::at_42;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).refused("packets wait");

/// Nobody has a protocol like this.
const PROTOCOL: u16 = 0xb33f;

fn run(cx: &mut Context) {
    at_42(bound(SocketType::DGRAM, PROTOCOL).into_raw_fd());
    // SAFETY: the number was just made, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(42) };
    check!(send(&packet(SocketType::DGRAM), PROTOCOL, b"for nobody else"), "sending");

    cx.ready_and_wait();

    check!(all(&socket).contains(&b"for nobody else".to_vec()), "the packet");
}
