//! Filters belong to threads: one that both have, and one that only one of them has.
//!
//! Verified: each has its own.
//! CRIU: works.

use super::status;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (bare, _) = cx.thread(|cx| {
        let before = status();
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(status(), before, "status of the thread without filters");
        check!(sys::bare_call(libc::SYS_getppid).is_ok(), "getppid without filters");
    });
    sys::no_new_privs();
    check!(sys::deny(0, &[libc::SYS_getppid], sys::error(71)).is_ok(), "installing a filter");
    let (more, _) = cx.thread(|cx| {
        let installed = sys::deny(0, &[libc::SYS_getpgrp], sys::error(72));
        check!(installed.is_ok(), "installing a filter");
        let before = status();
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(status(), before, "status of the thread with two filters");
        check_eq!(sys::bare_call(libc::SYS_getppid), Err(71), "what both are denied");
        check_eq!(sys::bare_call(libc::SYS_getpgrp), Err(72), "what one is denied");
    });

    cx.ready_and_wait();

    check_eq!(sys::bare_call(libc::SYS_getppid), Err(71), "what both are denied");
    check!(sys::bare_call(libc::SYS_getpgrp).is_ok(), "what only the other is denied");
    for thread in [bare, more] {
        check!(thread.join().is_ok(), "a thread panicked");
    }
}
