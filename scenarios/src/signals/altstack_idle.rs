//! An alternate stack with nothing on it, for a handler with `SA_ONSTACK`.
//!
//! Verified: the stack is registered, and a signal after the checkpoint is handled on it.
//! CRIU: works.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys::Area;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static WHERE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let here = 0u8;
    WHERE.store((&raw const here).addr(), Ordering::SeqCst);
}

fn run(cx: &mut Context) {
    let stack = Area::anonymous(64 * 1024);
    sys::set_altstack(stack, 0);
    sys::handle(libc::SIGUSR1, note, libc::SA_ONSTACK);
    sys::handle(libc::SIGUSR2, note, 0);
    let within = |signal| {
        check!(sys::raise(signal), "raise");
        (stack.start()..stack.end()).contains(&WHERE.load(Ordering::SeqCst))
    };
    check!(within(libc::SIGUSR1), "before: not on the alternate stack");

    cx.ready_and_wait();

    check_eq!(sys::altstack(), (stack.start(), 0, stack.len()), "the stack");
    check!(within(libc::SIGUSR1), "a handler with SA_ONSTACK did not run on the alternate stack");
    check!(!within(libc::SIGUSR2), "a handler without SA_ONSTACK ran on the alternate stack");
}
