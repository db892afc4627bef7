//! A pair of datagram sockets with messages under way, empty ones among them.
//!
//! Verified: every message comes alone and whole; more can be sent.
//! CRIU: works; it loses empty messages.

use super::talk::{DATAGRAM, hear, pair, send, silent, talk};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (one, other) = pair(DATAGRAM);
    let long = vec![7; 70_000];
    send(&one, b"one", &[]);
    send(&one, b"", &[]);
    send(&one, &long, &[]);
    send(&one, b"two", &[]);
    send(&other, b"back", &[]);

    cx.ready_and_wait();

    hear(&other, 100, b"one", "the first");
    hear(&other, 100, b"", "the empty one");
    hear(&other, 100_000, &long, "the long one");
    hear(&other, 2, b"tw", "the last, cut");
    silent(&other, "after that");
    hear(&one, 100, b"back", "what came back");
    talk(&one, &other);
}
