//! A pair of sequenced packet sockets with packets under way.
//!
//! Verified: every packet comes alone and whole; more can be sent; end of file when one is closed.
//! CRIU: works.

use super::talk::{SEQPACKET, ended, hear, pair, send, silent, talk};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (one, other) = pair(SEQPACKET);
    send(&one, b"one", &[]);
    send(&one, b"three", &[]);
    send(&other, b"back", &[]);

    cx.ready_and_wait();

    hear(&other, 100, b"one", "the first");
    hear(&other, 100, b"three", "the second");
    silent(&other, "after that");
    hear(&one, 100, b"back", "what came back");
    talk(&one, &other);
    drop(one);
    ended(&other, "after one was closed");
}
