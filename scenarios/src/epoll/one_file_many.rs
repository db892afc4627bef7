//! One file under six numbers, three of which are closed.
//!
//! Verified: its event is reported six times, newest item first; items of open numbers can be deleted.
//! CRIU: items of closed numbers collapse into one, and the restore fails.

use super::watch::{EDGE, Epoll, IN, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let file = event(0);
    for number in 50..56 {
        plant(&file, number);
        epoll.add(at(number), IN | EDGE, number as u64);
    }
    [50, 53, 54].into_iter().for_each(sys::close);

    cx.ready_and_wait();

    rouse(&file);
    let all: Vec<_> = (50..56).rev().map(|number| (number, IN)).collect();
    check_eq!(epoll.take(), all, "the events");
    for number in [51, 52, 55] {
        check_eq!(epoll.delete(at(number)), Ok(()), "deleting {number}");
    }
    rouse(&file);
    check_eq!(epoll.take(), [(54, IN), (53, IN), (50, IN)], "those of the closed numbers");
}
