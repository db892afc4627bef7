//! The place of level-triggered items that were reported: they go to the end.
//!
//! Verified: calls for three each go on where the last call before stopped.
//! CRIU: begins with the item it adds first.

use super::watch::{Epoll, IN, event};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files: Vec<_> = (0..8).map(|_| event(1)).collect();
    for (file, data) in files.iter().zip(0..) {
        epoll.add(file, IN, data);
    }
    let next = |from: u64| [from % 8, (from + 1) % 8, (from + 2) % 8].map(|data| (data, IN));
    check_eq!(epoll.take_some(3), next(0), "before");
    check_eq!(epoll.take_some(3), next(3), "before");

    cx.ready_and_wait();

    check_eq!(epoll.take_some(3), next(6), "first");
    check_eq!(epoll.take_some(3), next(9), "second");
    check_eq!(epoll.take_some(8).len(), 8, "all");
}
