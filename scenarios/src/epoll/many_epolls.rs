//! Three hundred epolls, each with an item on one file, under one number that is closed.
//!
//! Verified: one event is reported by each of them, once, and its data tells which it is.
//! CRIU: gives the items the number that the file has now.

use super::watch::{EDGE, Epoll, IN, NOTHING, ONCE, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let file = event(0);
    plant(&file, 50);
    let epolls: Vec<_> = (0..300)
        .map(|data| {
            let epoll = Epoll::new();
            epoll.add(at(50), IN | if data % 2 == 0 { EDGE } else { ONCE }, data);
            epoll
        })
        .collect();
    sys::close(50);

    cx.ready_and_wait();

    rouse(&file);
    for (epoll, data) in epolls.iter().zip(0..) {
        check_eq!(epoll.take(), [(data, IN)], "the event");
        check_eq!(epoll.take(), NOTHING, "the same again");
    }
}
