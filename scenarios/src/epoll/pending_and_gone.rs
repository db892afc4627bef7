//! Edges that are pending though their files have nothing to report any more, because they were read
//! meanwhile.
//!
//! Verified: nothing is reported before the next events, and those are.
//! CRIU: works, as it forgets what was pending.

use super::target::{OPTIONS, Target};
use super::watch::{EDGE, Epoll, NOTHING};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let targets = Target::all(cx);
    for (target, data) in targets.iter().zip(0..) {
        epoll.add(target, target.ready | EDGE, data);
        target.rouse();
        target.calm();
    }

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "before the next events");
    for (target, data) in targets.iter().zip(0..) {
        target.rouse();
        check_eq!(epoll.take(), [(data, target.ready)], "the next event of {}", target.name);
    }
}
