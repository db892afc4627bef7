//! Edges on every kind of file that are not reported yet.
//!
//! Verified: each is reported once, in the order of the events, and the next again.
//! CRIU: reports them in the order it adds them.

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
    }
    targets.iter().rev().for_each(Target::rouse);

    cx.ready_and_wait();

    let mut expected: Vec<_> = targets.iter().zip(0..).map(|(t, data)| (data, t.ready)).collect();
    expected.reverse();
    check_eq!(epoll.take(), expected, "the edges");
    check_eq!(epoll.take(), NOTHING, "the same edges again");
    for (target, data) in targets.iter().zip(0..) {
        target.calm();
        target.rouse();
        check_eq!(epoll.take(), [(data, target.ready)], "the next edge of {}", target.name);
    }
}
