//! A checkpoint in a signal handler, on the ordinary stack, with one handler interrupted by
//! another.
//!
//! Verified: both return, in order, to a function whose variables and registers are as before.
//! CRIU: works.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

static CONTEXT: OnceLock<Context> = OnceLock::new();
static STEPS: AtomicU32 = AtomicU32::new(0);

extern "C" fn outer(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    STEPS.fetch_add(1, Ordering::SeqCst);
    check!(sys::raise(libc::SIGUSR2), "raise");
    check_eq!(
        STEPS.fetch_add(100, Ordering::SeqCst),
        11,
        "steps when the inner handler has returned"
    );
    check_eq!(sys::blocked(), sys::sigset(&[libc::SIGUSR1]), "mask in the outer handler");
}

extern "C" fn inner(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    CONTEXT.get().expect("set before the signal").ready_and_wait();
    STEPS.fetch_add(10, Ordering::SeqCst);
    check_eq!(
        sys::blocked(),
        sys::sigset(&[libc::SIGUSR1, libc::SIGUSR2]),
        "mask in the inner handler"
    );
}

fn run(cx: &mut Context) {
    sys::handle(libc::SIGUSR1, outer, 0);
    sys::handle(libc::SIGUSR2, inner, 0);
    check!(CONTEXT.set(cx.clone()).is_ok(), "the first to set it");
    let numbers = std::hint::black_box([1.5f64, 2.5, 1e300]);
    check!(sys::raise(libc::SIGUSR1), "raise");
    check_eq!(STEPS.load(Ordering::SeqCst), 111, "steps after both handlers");
    check_eq!(std::hint::black_box(numbers), [1.5, 2.5, 1e300], "floating-point variables");
    check_eq!(sys::blocked(), 0, "mask after the handlers");
}
