//! Edges on every kind of file that were reported, and whose files are still ready.
//!
//! Verified: they are not reported again; the next edges are.
//! CRIU: reports them again.

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
        check_eq!(epoll.take(), [(data, target.ready)], "{} before", target.name);
    }

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "the same edges again");
    for (target, data) in targets.iter().zip(0..) {
        target.calm();
        target.rouse();
        check_eq!(epoll.take(), [(data, target.ready)], "the next edge of {}", target.name);
    }
}
