//! Stream sockets that are shut down in one direction, with bytes under way in both.
//!
//! Verified: the bytes come, then end of file where it was shut; the other direction goes on; shutdowns stay.
//! CRIU: works.

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, shutdown};

use super::talk::{STREAM, ended, hear, pair, ready, send};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (one, other) = pair(STREAM);
    let (deaf, _its_peer) = pair(STREAM);
    send(&one, b"the last", &[]);
    send(&other, b"not the last", &[]);
    shutdown(&one, Shutdown::Write).expect("shutdown");
    shutdown(&deaf, Shutdown::Read).expect("shutdown");
    let before = [ready(&one), ready(&other), ready(&deaf)];

    cx.ready_and_wait();

    check_eq!([ready(&one), ready(&other), ready(&deaf)], before, "what poll tells");
    hear(&other, 100, b"the last", "what was sent before");
    ended(&other, "after that");
    hear(&one, 100, b"not the last", "what came the other way");
    send(&other, b"more", &[]);
    hear(&one, 100, b"more", "what was sent afterwards");
    let sent = rustix::net::send(&one, b"no", SendFlags::NOSIGNAL);
    check_eq!(sent, Err(Errno::PIPE), "sending where it was shut");
    ended(&deaf, "reading where it was shut");
}
