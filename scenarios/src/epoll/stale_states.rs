//! Stale keys whose items are pending, consumed, fired and armed.
//!
//! Verified: each is what it was, and the pending ones come in their order.
//! CRIU: all items have other numbers, and are new.

use super::watch::{EDGE, Epoll, IN, ONCE, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files: Vec<_> = (0..6).map(|_| event(0)).collect();
    let masks = [IN | EDGE, IN | EDGE, IN | ONCE, IN | ONCE, IN, IN | EDGE | ONCE];
    for (file, data) in files.iter().zip(0..) {
        plant(file, 50 + data as i32 % 2);
        epoll.add(at(50 + data as i32 % 2), masks[data as usize], data);
    }
    [50, 51].into_iter().for_each(sys::close);
    rouse(&files[0]);
    rouse(&files[2]);
    rouse(&files[5]);
    check_eq!(epoll.take(), [(0, IN), (2, IN), (5, IN)], "before");
    rouse(&files[4]);
    rouse(&files[3]);
    rouse(&files[1]);

    cx.ready_and_wait();

    check_eq!(epoll.take(), [(4, IN), (3, IN), (1, IN)], "what was pending");
    files.iter().for_each(rouse);
    check_eq!(epoll.take(), [(4, IN), (0, IN), (1, IN)], "after events of all");
}
