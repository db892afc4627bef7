//! One-shots on every kind of file that are armed, and whose files have nothing to report.
//!
//! Verified: each fires once, whatever happens after.
//! CRIU: works.

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

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "before any event");
    for (target, data) in targets.iter().zip(0..) {
        target.rouse();
        check_eq!(epoll.take(), [(data, target.ready)], "{}", target.name);
        target.calm();
        target.rouse();
        check_eq!(epoll.take(), NOTHING, "{} fires again", target.name);
    }
}
