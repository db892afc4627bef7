//! No alternate stack, in the leader and in a thread, and a handler with `SA_ONSTACK` all the same.
//!
//! Verified: none is registered, and a signal after the checkpoint is handled on the stack in use.
//! CRIU: works.

use std::cell::Cell;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

thread_local! {
    /// Leader and thread verify at the same time.
    static WHERE: Cell<usize> = const { Cell::new(0) };
}

extern "C" fn note(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let here = 0u8;
    WHERE.set((&raw const here).addr());
}

/// More than a handler and what leads to it take of a stack.
const NEAR: usize = 1 << 20;

fn verify(who: &str) {
    check_eq!(sys::altstack(), (0, libc::SS_DISABLE, 0), "the stack of {who}");
    let here = 0u8;
    check!(sys::raise(libc::SIGUSR1), "raise");
    let distance = WHERE.get().abs_diff((&raw const here).addr());
    check!(distance < NEAR, "the handler of {who} ran {distance} bytes away");
}

fn run(cx: &mut Context) {
    sys::handle(libc::SIGUSR1, note, libc::SA_ONSTACK);
    sys::no_altstack();
    verify("the leader");
    let (thread, _) = cx.thread(|cx| {
        // Rust's threads have one.
        sys::no_altstack();
        cx.arrive(sys::gettid());
        crate::context::until_forever(|| cx.gone());
        verify("the thread");
    });

    cx.ready_and_wait();

    verify("the leader");
    check!(thread.join().is_ok(), "the thread panicked");
}
