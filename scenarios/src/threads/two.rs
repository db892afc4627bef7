//! A second thread.
//!
//! Verified: its tid, that both run on, and that `pthread_join` returns, for which the kernel
//! must still clear the tid at the address of `set_tid_address` and wake the waiter.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let (thread, tid) = cx.thread(|cx| {
        let tid = sys::gettid();
        cx.arrive(tid);
        cx.wait_go();
        check_eq!(sys::gettid(), tid, "gettid() of the second thread");
        tid
    });
    cx.ready_and_wait();
    check_eq!(thread.join().ok(), Some(tid), "what the thread returned");
}
