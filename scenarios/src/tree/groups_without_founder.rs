//! Process groups whose founders live, but are in other groups now: one back in that of the root,
//! two in each other's.
//!
//! Verified: parents, sessions and groups of all.
//! CRIU: does not restore it.

use super::troupe::Deed::{End, Fork, Found, Join, Reap};
use super::troupe::play;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let deeds = [
        (0, Fork(1)),
        (0, Fork(2)),
        (1, Found),
        (2, Join(1)),
        (1, Join(0)),
        (0, Fork(3)),
        (0, Fork(4)),
        (0, Fork(5)),
        (3, Found),
        (4, Found),
        (5, Join(3)),
        (3, Join(4)),
        (4, Join(5)),
        (5, End),
        (0, Reap(5)),
    ];
    play(cx, &deeds);
}
