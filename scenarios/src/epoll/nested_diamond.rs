//! An epoll that watches two others, both of which watch the same third and the same file.
//!
//! Verified: one event comes out by all ways; each epoll consumes its own.
//! CRIU: works, but for consumed edges.

use super::watch::{EDGE, Epoll, IN, NOTHING, calm, event, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let file = event(0);
    let [bottom, left, right, top] = [Epoll::new(), Epoll::new(), Epoll::new(), Epoll::new()];
    bottom.add(&file, IN, 0);
    for (side, data) in [(&left, 1), (&right, 2)] {
        side.add(&bottom, IN | EDGE, data);
        side.add(&file, IN, data + 10);
        top.add(side, IN, data + 100);
    }
    top.add(&file, IN | EDGE, 1000);
    rouse(&file);
    check_eq!(left.take().len(), 2, "what the left reports before");

    cx.ready_and_wait();

    let sorted = |epoll: &Epoll| {
        let mut found = epoll.take();
        found.sort_unstable();
        found
    };
    check_eq!(sorted(&top), [(101, IN), (102, IN), (1000, IN)], "the top");
    check_eq!(sorted(&top), [(101, IN), (102, IN)], "the top again");
    check_eq!(sorted(&left), [(11, IN)], "the left, whose edge was consumed");
    check_eq!(sorted(&right), [(2, IN), (12, IN)], "the right");
    check_eq!(sorted(&right), [(12, IN)], "the right again");
    check_eq!(bottom.take(), [(0, IN)], "the bottom");
    calm(&file);
    check_eq!(top.take(), NOTHING, "the top, with nothing to report below");
}
