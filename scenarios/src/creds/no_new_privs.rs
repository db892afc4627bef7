//! `no_new_privs`.
//!
//! Verified: the attribute is set, in a child too, and not in a child forked before.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn get() -> i32 {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) }
}

fn child(cx: &Context, expected: i32) -> i32 {
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(get(), expected, "no_new_privs of a child");
    });
    cx.await_arrival(child);
    child
}

fn run(cx: &mut Context) {
    let before = child(cx, 0);
    // SAFETY: plain numbers.
    let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    check_eq!(set, 0, "PR_SET_NO_NEW_PRIVS");
    let after = child(cx, 1);
    cx.ready_and_wait();
    check_eq!(get(), 1, "no_new_privs");
    cx.reap(before);
    cx.reap(after);
}
