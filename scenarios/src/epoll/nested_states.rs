//! Epolls in an epoll whose edges are pending or consumed, and whose one-shots are fired.
//!
//! Verified: only what was pending is reported, and nothing of the fired one-shot after another event.
//! CRIU: reports consumed edges again, and fired one-shots when they hang up.

use super::watch::{EDGE, Epoll, IN, ONCE, event, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let files = [event(0), event(0), event(0)];
    let inner = files.each_ref().map(|file| {
        let inner = Epoll::new();
        inner.add(file, IN, 0);
        inner
    });
    let outer = Epoll::new();
    for ((inner, events), data) in inner.iter().zip([EDGE, EDGE, ONCE]).zip(0..) {
        outer.add(inner, IN | events, data);
    }
    rouse(&files[1]);
    rouse(&files[2]);
    check_eq!(outer.take(), [(1, IN), (2, IN)], "before");
    rouse(&files[0]);

    cx.ready_and_wait();

    check_eq!(outer.take(), [(0, IN)], "what was pending");
    files.iter().for_each(rouse);
    check_eq!(outer.take(), [(0, IN), (1, IN)], "after events of all");
    check_eq!(outer.modify(&inner[2], IN | ONCE, 20), Ok(()), "arming the one-shot");
    check_eq!(outer.take(), [(20, IN)], "the one-shot, armed");
}
