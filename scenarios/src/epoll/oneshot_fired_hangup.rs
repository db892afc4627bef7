//! One-shots on every kind of file with another end that were reported; then the other ends go.
//!
//! Verified: hang-ups and errors are not reported until the items are armed again.
//! CRIU: reports them, as the kernel arms what is added for both.

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

    for (target, data) in targets.into_iter().zip(0..) {
        let name = target.name;
        let Some((file, events)) = target.hang_up() else { continue };
        check_eq!(epoll.take(), NOTHING, "{name}, whose other end is gone");
        check_eq!(epoll.modify(&file, ONCE, data), Ok(()), "arming");
        check_eq!(epoll.take(), [(data, events)], "{name} once armed");
    }
}
