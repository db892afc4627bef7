//! A chain of processes, each the only child of the one before, eight deep.
//!
//! Verified by each: its own pid and its parent's. By each parent: that its child exits with 0.
//! CRIU: works.

use crate::{Context, Scenario, sys};

const DEPTH: usize = 8;

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let child = cx.fork(|cx| descend(cx, 1));
    cx.await_arrival(child);
    cx.ready_and_wait();
    cx.reap(child);
}

fn descend(cx: &Context, depth: usize) {
    let (pid, parent) = (sys::gettid(), sys::parent());
    let child = (depth < DEPTH).then(|| cx.fork(|cx| descend(cx, depth + 1)));
    if let Some(child) = child {
        cx.await_arrival(child);
    }
    cx.arrive(pid);
    cx.wait_go();
    check_eq!(std::process::id() as i32, pid, "pid at depth {depth}");
    check_eq!(sys::parent(), parent, "parent at depth {depth}");
    if let Some(child) = child {
        cx.reap(child);
    }
}
