//! Fifty children of one process.
//!
//! Verified: each child's pid and parent; each exits with a status of its own.
//! CRIU: works.

use crate::{Context, Scenario, sys};

const CHILDREN: i32 = 50;

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let root = sys::gettid();
    let children: Vec<i32> = (0..CHILDREN)
        .map(|number| {
            cx.fork(|cx| {
                let pid = sys::gettid();
                cx.arrive(pid);
                cx.wait_go();
                check_eq!((sys::gettid(), sys::parent()), (pid, root), "pid and parent");
                sys::exit(number)
            })
        })
        .collect();
    children.iter().for_each(|&c| cx.await_arrival(c));
    cx.ready_and_wait();
    for (number, child) in (0..).zip(children) {
        check_eq!(sys::wait_status(child), Ok(number << 8), "status of child {number}");
    }
}
