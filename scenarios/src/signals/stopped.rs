//! Children stopped by SIGSTOP, whose parent has already been told.
//!
//! Verified: they are still stopped and make no step; SIGCONT lets them run, and the parent is told of
//! that; one with two threads.
//! CRIU: stops them anew, so the parent could be told of the stop a second time; a dump with `-R`
//! leaves them SIGSTOP pending.

use crate::context::until_forever;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let plain = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        cx.publish("ran.1", "");
        // A child that has ended can no longer be seen to have been continued.
        until_forever(|| cx.path("seen").exists());
    });
    let threaded = cx.fork(|cx| {
        let (thread, _) = cx.thread(|cx| {
            cx.arrive(sys::gettid());
            cx.wait_go();
        });
        cx.arrive(sys::gettid());
        check!(thread.join().is_ok(), "the thread panicked");
        cx.publish("ran.2", "");
        until_forever(|| cx.path("seen").exists());
    });
    let children = [(plain, "ran.1"), (threaded, "ran.2")];
    for (child, _) in children {
        cx.await_arrival(child);
        sys::kill(child, libc::SIGSTOP);
        let stop = sys::wait_siginfo(child, libc::WSTOPPED).ok();
        check_eq!(stop, Some((libc::CLD_STOPPED, libc::SIGSTOP)), "stop of {child}");
    }

    cx.ready_and_wait();

    // Their `go` is there; a stopped process does not see it.
    sys::nap(std::time::Duration::from_millis(100));
    for (child, ran) in children {
        check_eq!(sys::state(child), Some('T'), "state of {child}");
        check!(!cx.path(ran).exists(), "{child} ran though it was stopped");
        sys::kill(child, libc::SIGCONT);
        let go_on = sys::wait_siginfo(child, libc::WCONTINUED).ok();
        check_eq!(go_on, Some((libc::CLD_CONTINUED, libc::SIGCONT)), "continuation of {child}");
    }
    cx.publish("seen", "");
    for (child, ran) in children {
        cx.reap(child);
        check!(cx.path(ran).exists(), "{child} did not run after SIGCONT");
    }
}
