//! A process whose parent has ended and which now belongs to the root, a subreaper.
//!
//! Verified: its parent is the root, which gets its end; the subreaper attribute still works for an
//! orphan made afterwards.
//! CRIU: works.

use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Makes a child which makes a child and ends; returns when the latter is the caller's.
pub(super) fn adopt(cx: &Context, name: &str, life: impl FnOnce(&Context)) -> i32 {
    let caller = sys::gettid();
    let parent = cx.fork(|cx| {
        let middle = sys::gettid();
        cx.fork(|cx| {
            until("the parent's end", || sys::parent() != middle);
            cx.publish(name, &sys::gettid().to_string());
            check_eq!(sys::parent(), caller, "the adoptive parent");
            life(cx);
        });
    });
    cx.reap(parent);
    let mut pid = None;
    until("the orphan's pid", || {
        pid = std::fs::read_to_string(cx.path(name)).ok().and_then(|t| t.parse().ok());
        pid.is_some()
    });
    pid.expect("until saw it")
}

fn run(cx: &mut Context) {
    let root = sys::gettid();
    sys::become_subreaper();
    let orphan = adopt(cx, "orphan", |cx| {
        cx.wait_go();
        check_eq!(sys::parent(), root, "parent of the orphan");
    });
    cx.ready_and_wait();
    cx.reap(orphan);
    check_eq!(sys::is_subreaper(), true, "PR_GET_CHILD_SUBREAPER");
    let later = adopt(cx, "later", |_| {});
    cx.reap(later);
}
