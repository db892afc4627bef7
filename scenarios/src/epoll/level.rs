//! Level-triggered items on every kind of file, ready or not.
//!
//! Verified: those that are ready are reported each time, and those that are not after their events.
//! CRIU: reports them in the order it adds them.

use super::target::{OPTIONS, Target};
use super::watch::{Epoll, NOTHING};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

fn run(cx: &mut Context) {
    let (epoll, targets) = (Epoll::new(), Target::all(cx));
    let ready = Target::all(cx);
    for (target, data) in targets.iter().zip(0..) {
        epoll.add(target, target.ready, data);
    }
    for (target, data) in ready.iter().zip(100..) {
        epoll.add(target, target.ready, data);
        target.rouse();
    }

    cx.ready_and_wait();

    let mut expected: Vec<_> = ready.iter().zip(100..).map(|(t, data)| (data, t.ready)).collect();
    check_eq!(epoll.take(), expected, "what is ready");
    check_eq!(epoll.take(), expected, "what is ready, again");
    ready.iter().for_each(Target::calm);
    check_eq!(epoll.take(), NOTHING, "when nothing is");
    targets.iter().for_each(Target::rouse);
    expected = targets.iter().zip(0..).map(|(t, data)| (data, t.ready)).collect();
    check_eq!(epoll.take(), expected, "after events of the others");
}
