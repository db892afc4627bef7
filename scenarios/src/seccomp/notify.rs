//! A filter that asks a supervisor, by a descriptor of a kind of its own.
//!
//! Verified: the dump is refused, naming it.
//! CRIU: does not notice, and loses the supervisor.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("a seccomp filter with user notification");

fn run(cx: &mut Context) {
    let child = cx.fork(|cx| {
        sys::no_new_privs();
        let listener = sys::deny(sys::NEW_LISTENER, &[libc::SYS_getppid], sys::USER_NOTIF);
        check!(listener.is_ok(), "installing a filter");
        sys::close(listener.map_or(-1, |fd| fd as i32));
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
    });
    cx.await_arrival(child);
    cx.ready_and_wait();
    cx.reap(child);
}
