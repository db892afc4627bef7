//! A pair of sockets of which each is in flight through the other.
//!
//! Verified: each arrives where it was sent to, and is the socket it was.
//! CRIU: works.

use std::os::fd::AsFd;

use super::talk::{STREAM, hear, pair, send, talk};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (one, other) = pair(STREAM);
    send(&one, b"itself", &[one.as_fd()]);
    send(&other, b"each other", &[one.as_fd(), other.as_fd()]);
    drop(one);

    // `other` is all that is left, and holds the rest.
    cx.ready_and_wait();

    let mut got = hear(&other, 100, b"itself", "what came here").rights;
    check_eq!(got.len(), 1, "descriptors");
    let Some(one) = got.pop() else { return };
    let got = hear(&one, 100, b"each other", "what came there").rights;
    check_eq!(got.len(), 2, "descriptors");
    let [again, back] = got.as_slice() else { return };
    talk(again, back);
    talk(&one, &other);
}
