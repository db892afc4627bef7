//! Members of sessions which stayed where their leaders were born, below a process that adopted
//! them, when the leaders themselves went up to the root: who was above them ended later, and the
//! one between was no subreaper any more.
//!
//! Verified: parents, sessions and groups of all.
//! CRIU: does not restore it.

use super::troupe::Deed::{End, Fork, Reap, SetSid, Subreaper};
use super::troupe::{Deed, play};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Actor 1 adopts the last of these four, actor 0 the leader, which is the second.
fn part([above, leader, helper, member]: [u8; 4]) -> [(u8, Deed); 11] {
    [
        (1, Fork(above)),
        (above, Fork(leader)),
        (leader, SetSid),
        (leader, Fork(helper)),
        (helper, Fork(member)),
        (1, Subreaper(true)),
        (helper, End),
        (leader, Reap(helper)),
        (1, Subreaper(false)),
        (above, End),
        (1, Reap(above)),
    ]
}

fn run(cx: &mut Context) {
    let begin = [(0, Subreaper(true)), (0, Fork(1)), (1, SetSid)];
    // Two, so that their adopter cannot have been born into the session of both.
    let deeds = [&begin[..], &part([2, 3, 4, 5]), &part([6, 7, 8, 9])].concat();
    play(cx, &deeds);
}
