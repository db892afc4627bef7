//! One-shots on every kind of file that were reported, and whose files have nothing to report since.
//!
//! Verified: events of all are not reported; armed again, all are, in the order they are armed.
//! CRIU: arms them for hang-ups and errors, as the kernel does with what is added.

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
        target.rouse();
        check_eq!(epoll.take(), [(data, target.ready)], "{} before", target.name);
        target.calm();
    }

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "before any event");
    for (target, data) in targets.iter().zip(0..) {
        target.rouse();
        check_eq!(epoll.take(), NOTHING, "{} fires again", target.name);
        check_eq!(epoll.modify(target, target.ready | ONCE, data + 100), Ok(()), "arming");
        check_eq!(epoll.take(), [(data + 100, target.ready)], "{} once armed", target.name);
        check_eq!(epoll.take(), NOTHING, "{} after that", target.name);
    }
}
