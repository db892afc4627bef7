//! A child with the filter of its parent and one of its own.
//!
//! Verified: which filters hold for whom.
//! CRIU: works.

use super::status;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    sys::no_new_privs();
    check!(sys::deny(0, &[libc::SYS_getppid], sys::error(71)).is_ok(), "installing a filter");
    let child = cx.fork(|cx| {
        check!(sys::deny(0, &[libc::SYS_getpgrp], sys::error(72)).is_ok(), "installing a filter");
        let before = status();
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
        check_eq!(status(), before, "status of the child");
        check_eq!(sys::bare_call(libc::SYS_getppid), Err(71), "what the parent's filter denies");
        check_eq!(sys::bare_call(libc::SYS_getpgrp), Err(72), "what the child's filter denies");
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    check_eq!(sys::bare_call(libc::SYS_getppid), Err(71), "what the parent's filter denies");
    check!(sys::bare_call(libc::SYS_getpgrp).is_ok(), "what only the child's filter denies");
    cx.reap(child);
}
