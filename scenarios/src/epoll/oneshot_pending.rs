//! One-shots on every kind of file that are about to be reported.
//!
//! Verified: each is reported once, in the order of the events.
//! CRIU: reports them in the order it adds them.

use super::target::{OPTIONS, Target};
use super::watch::{Epoll, NOTHING, ONCE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let targets = Target::all(cx);
    for (target, data) in targets.iter().zip(0..) {
        epoll.add(target, target.ready | ONCE, data);
    }
    targets.iter().rev().for_each(Target::rouse);

    cx.ready_and_wait();

    let mut expected: Vec<_> = targets.iter().zip(0..).map(|(t, data)| (data, t.ready)).collect();
    expected.reverse();
    check_eq!(epoll.take(), expected, "the events");
    targets.iter().for_each(Target::rouse);
    check_eq!(epoll.take(), NOTHING, "after that");
}
