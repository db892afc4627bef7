//! One thread of several that has restricted itself by Landlock.
//!
//! Verified: the dump is refused, naming the thread and the kind; it still cannot open what its rules
//! do not allow, and the others can.
//! CRIU: restores it without any restriction.

use std::fs::File;

use crate::{Context, Scenario, sys, sys::landlock};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused_task("a Landlock domain")
    .missing(landlock::no_landlock);

fn run(cx: &mut Context) {
    let readable = || File::open("/etc/passwd").is_ok();
    let (thread, _) = cx.thread(move |cx| {
        landlock::only_read_below(&cx.path(""));
        cx.arrive(sys::gettid());
        crate::context::until_forever(|| cx.gone());
        check!(!readable(), "the thread may read everything");
    });
    cx.ready_and_wait();
    check!(readable(), "the first thread is restricted");
    check!(thread.join().is_ok(), "the thread panicked");
}
