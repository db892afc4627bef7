//! Edges of hang-ups and errors, reported or not, on every kind of file with another end.
//!
//! Verified: only those not yet reported are reported.
//! CRIU: reports all.

use super::target::{OPTIONS, Target};
use super::watch::{EDGE, Epoll, NOTHING};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

fn run(cx: &mut Context) {
    let reported = Epoll::new();
    let pending = Epoll::new();
    let mut files = Vec::new();
    for (target, data) in Target::all(cx).into_iter().zip(0..) {
        reported.add(&target, EDGE, data);
        pending.add(&target, EDGE, data);
        target.rouse();
        files.extend(target.hang_up().map(|(file, events)| (file, events, data)));
    }
    let all: Vec<_> = files.iter().map(|&(_, events, data)| (data, events)).collect();
    check_eq!(reported.take(), all, "before");

    cx.ready_and_wait();

    check_eq!(reported.take(), NOTHING, "what was reported");
    check_eq!(pending.take(), all, "what was not");
    check_eq!(pending.take(), NOTHING, "the same again");
}
