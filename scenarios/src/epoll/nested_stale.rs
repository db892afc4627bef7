//! Epolls that watch each other under numbers that are closed or stand for others by now.
//!
//! Verified: an event of the innermost goes through all.
//! CRIU: gives the items the numbers that the epolls have now, and two become one.

use super::watch::{EDGE, Epoll, IN, NOTHING, at, event, plant, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let file = event(0);
    let [inner, middle, outer] = [Epoll::new(), Epoll::new(), Epoll::new()];
    plant(&file, 50);
    inner.add(at(50), IN, 1);
    plant(&inner, 50);
    middle.add(at(50), IN | EDGE, 2);
    plant(&middle, 50);
    outer.add(at(50), IN | EDGE, 3);
    outer.add(&middle, IN, 4);
    plant(&outer, 50);

    cx.ready_and_wait();

    check_eq!(outer.take(), NOTHING, "before the event");
    rouse(&file);
    check_eq!(outer.take(), [(4, IN), (3, IN)], "the outer, by both keys");
    check_eq!(outer.take(), [(4, IN)], "the outer again");
    check_eq!(middle.take(), [(2, IN)], "the one in the middle");
    check_eq!(inner.take(), [(1, IN)], "the inner");
    check_eq!(outer.delete(&middle), Ok(()), "deleting the live key");
    plant(&middle, 50);
    check_eq!(outer.delete(at(50)), Ok(()), "deleting the stale one");
}
