//! Edge-triggered items on every kind of file without any event yet.
//!
//! Verified: nothing is reported before an event, and that once.
//! CRIU: works.

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

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "before any event");
    for (target, data) in targets.iter().zip(0..) {
        target.rouse();
        check_eq!(epoll.take(), [(data, target.ready)], "{}", target.name);
        check_eq!(epoll.take(), NOTHING, "{} again", target.name);
    }
}
