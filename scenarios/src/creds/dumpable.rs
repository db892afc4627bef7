//! A process that is not dumpable: its files in `/proc` belong to root, and it leaves no core.
//!
//! Verified: `PR_GET_DUMPABLE` of the process and of a child that is dumpable.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn get() -> i32 {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }
}

fn run(cx: &mut Context) {
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(get(), 1, "PR_GET_DUMPABLE of the child");
    });
    cx.await_arrival(child);
    // SAFETY: plain numbers.
    let set = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    check_eq!(set, 0, "PR_SET_DUMPABLE");
    cx.ready_and_wait();
    check_eq!(get(), 0, "PR_GET_DUMPABLE");
    cx.reap(child);
}
