//! Members of one session, whose leader is gone, with two processes that adopted them: one was
//! below the other then, but is its sibling now.
//!
//! Verified: parents, sessions and groups of all.
//! CRIU: does not restore it.

use super::troupe::Deed::{End, Fork, Reap, SetSid, Subreaper};
use super::troupe::play;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let deeds = [
        (0, Subreaper(true)),
        (0, Fork(1)),
        (1, Fork(2)),
        (2, Fork(3)),
        (3, Fork(4)),
        (4, SetSid),
        (4, Fork(5)),
        (5, Fork(6)),
        (4, Fork(7)),
        (7, Fork(8)),
        (3, Subreaper(true)),
        (5, End),
        (4, Reap(5)),
        (3, Subreaper(false)),
        (1, Subreaper(true)),
        (7, End),
        (4, Reap(7)),
        (1, Subreaper(false)),
        (4, End),
        (3, Reap(4)),
        (2, End),
        (1, Reap(2)),
    ];
    play(cx, &deeds);
}
