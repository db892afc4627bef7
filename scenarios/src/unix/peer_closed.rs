//! Stream and packet sockets whose peers have closed: with bytes left to read, and without.
//!
//! Verified: the bytes, then end of file; sending fails with EPIPE.
//! CRIU: works.

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::talk::{SEQPACKET, STREAM, ended, hear, pair, ready, send};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (with, peer) = pair(STREAM);
    send(&peer, b"left behind", &[]);
    drop(peer);
    let (without, _) = pair(STREAM);
    let (packets, peer) = pair(SEQPACKET);
    send(&peer, b"a packet", &[]);
    send(&peer, b"and one more", &[]);
    drop(peer);
    let state = || [&with, &without, &packets].map(ready);
    let before = state();

    cx.ready_and_wait();

    check_eq!(state(), before, "what poll tells");
    hear(&with, 100, b"left behind", "bytes");
    ended(&with, "after the bytes");
    ended(&without, "without bytes");
    hear(&packets, 100, b"a packet", "the first packet");
    hear(&packets, 100, b"and one more", "the second packet");
    ended(&packets, "after the packets");
    for socket in [&with, &without, &packets] {
        let sent = rustix::net::send(socket, b"no", SendFlags::NOSIGNAL);
        check_eq!(sent, Err(Errno::PIPE), "sending");
    }
}
