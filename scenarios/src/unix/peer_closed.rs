//! Stream and packet sockets whose peers have closed: with bytes left to read, and without.
//!
//! Verified: the bytes, then end of file; sending fails with EPIPE; so it is told who the peer was.
//! CRIU: works for streams; it forgets who the peer was.

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::talk::{SEQPACKET, STREAM, ended, hear, pair, peer_cred, ready, send};

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
    let state = || [&with, &without, &packets].map(|socket| (ready(socket), peer_cred(socket)));
    let before = state();

    cx.ready_and_wait();

    check_eq!(state(), before, "what poll and SO_PEERCRED tell");
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
