//! Processes whose first thread has ended while another goes on.
//!
//! Verified: tid and pid of the one that goes on, that the process is still there for its parent,
//! and its exit status, which is that of the last thread or of `exit_group(2)`.
//! CRIU: refuses to dump them.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// A process whose first thread ends with 5, and another with 6, by itself or with all the process.
fn leave(cx: &Context, all: bool) -> i32 {
    let pid = cx.fork(|cx| {
        let (pid, leader) = (sys::own_pid(), cx.clone());
        cx.thread(move |cx| {
            let tid = sys::gettid();
            cx.arrive(tid);
            leader.await_state(pid, 'Z');
            cx.arrive(pid);
            cx.wait_go();
            let found = (sys::own_pid(), sys::gettid(), sys::state(pid));
            if found != (pid, tid, Some('Z')) {
                sys::exit(101);
            }
            if all { sys::exit(6) } else { sys::exit_thread(6) }
        });
        sys::exit_thread(5);
    });
    cx.await_arrival(pid);
    pid
}

fn run(cx: &mut Context) {
    let (one, all) = (leave(cx, false), leave(cx, true));
    cx.ready_and_wait();
    check_eq!(sys::wait_status(one), Ok(6 << 8), "status when the last thread ends by itself");
    check_eq!(sys::wait_status(all), Ok(6 << 8), "status of exit_group");
}
