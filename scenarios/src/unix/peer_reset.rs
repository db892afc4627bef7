//! A stream whose peer has closed without reading everything.
//!
//! Verified: what it sent can be read; then ECONNRESET, once; then end of file.
//! CRIU: forgets the error.

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::talk::{STREAM, ended, hear, pair, ready, receive, send};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (own, peer) = pair(STREAM);
    send(&own, b"never read", &[]);
    send(&peer, b"but this is", &[]);
    drop(peer);

    cx.ready_and_wait();

    check!(ready(&own).contains(PollFlags::ERR), "poll tells of an error");
    hear(&own, 100, b"but this is", "what the peer had sent");
    let got = receive(&own, 100, RecvFlags::empty());
    check_eq!(got.map(|got| got.bytes), Err(Errno::CONNRESET), "then");
    ended(&own, "at last");
}
