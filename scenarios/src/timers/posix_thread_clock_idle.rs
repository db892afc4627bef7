//! A timer on a thread's processor time that does not run: nothing shows whose time it would be.
//!
//! Verified: the dump is refused, naming it.
//! CRIU: makes the first thread's timer of it.

use crate::sys::Ask;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("a POSIX timer on a thread's processor time");

fn run(cx: &mut Context) {
    let (thread, _) = cx.thread(|cx| {
        let ask = Ask {
            clock: libc::CLOCK_THREAD_CPUTIME_ID,
            notify: libc::SIGEV_NONE,
            signal: 0,
            tid: 0,
            value: 0,
        };
        check!(sys::timer_create(&ask).is_ok(), "timer_create");
        cx.arrive(sys::gettid());
        cx.wait_go();
    });
    cx.ready_and_wait();
    check!(thread.join().is_ok(), "the thread panicked");
}
