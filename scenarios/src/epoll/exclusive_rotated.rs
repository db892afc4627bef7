//! Items with `EPOLLEXCLUSIVE` on one file under three numbers, one of which was reported: it went to the
//! end, while the file still tells it first.
//!
//! Verified: the order in which they are reported, and that in which the file tells them.
//! CRIU: one item is left of the three, under a number that is closed.

use super::watch::{EXCLUSIVE, Epoll, IN, NOTHING, at, calm, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (epoll, file) = (Epoll::new(), event(1));
    for number in [50, 51, 52] {
        plant(&file, number);
        epoll.add(at(number), IN | EXCLUSIVE, number as u64);
        sys::close(number);
    }
    check_eq!(epoll.take_some(1), [(50, IN)], "the first");

    cx.ready_and_wait();

    check_eq!(epoll.take(), [51, 52, 50].map(|data| (data, IN)), "all, the first one last");
    calm(&file);
    check_eq!(epoll.take(), NOTHING, "a file that is not ready");
    rouse(&file);
    // As nobody waits, all of them.
    check_eq!(epoll.take(), [50, 51, 52].map(|data| (data, IN)), "those that are told");
}
