//! Two leaders, each of which has a child in the session of the other: one was born before the
//! second leader made its session, the other is an orphan of that.
//!
//! Verified: parents, sessions and groups of all.
//! CRIU: does not restore it.

use super::troupe::Deed::{End, Fork, Reap, SetSid, Subreaper};
use super::troupe::play;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let deeds = [
        (0, Fork(1)),
        (1, SetSid),
        (1, Fork(2)),
        (2, Fork(3)),
        (2, SetSid),
        (2, Fork(4)),
        (4, Fork(5)),
        (1, Subreaper(true)),
        (4, End),
        (2, Reap(4)),
        (1, Subreaper(false)),
    ];
    play(cx, &deeds);
}
