//! A subreaper further down: an orphan belongs to it, not to the root; its brothers are no
//! subreapers.
//!
//! Verified: parents; who is a subreaper and who is not.
//! CRIU: works.

use super::orphan::adopt;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let middle = cx.fork(|cx| {
        let me = sys::gettid();
        sys::become_subreaper();
        let orphan = adopt(cx, "orphan", |cx| {
            cx.wait_go();
            check_eq!(sys::parent(), me, "parent of the orphan");
            check_eq!(sys::is_subreaper(), false, "the orphan as a subreaper");
        });
        cx.arrive(me);
        cx.wait_go();
        check_eq!(sys::is_subreaper(), true, "the parent as a subreaper");
        cx.reap(orphan);
    });
    cx.await_arrival(middle);
    cx.ready_and_wait();
    check_eq!(sys::is_subreaper(), false, "the root as a subreaper");
    cx.reap(middle);
}
