//! An orphan of a session whose leader is further down, with which it shares its fd table and
//! directories: it has them by way of its parent, which is gone.
//!
//! Verified: parents, sessions and groups of all.
//! CRIU: refuses to dump it.

use super::troupe::Deed::{End, Fork, ForkSharing, Reap, SetSid, Subreaper};
use super::troupe::play;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let deeds = [
        (0, Subreaper(true)),
        (0, Fork(1)),
        (1, Fork(2)),
        (2, SetSid),
        (2, ForkSharing(3)),
        (3, ForkSharing(4)),
        (3, End),
        (2, Reap(3)),
    ];
    play(cx, &deeds);
}
