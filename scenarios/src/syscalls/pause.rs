//! `pause`.
//!
//! Verified: it stays blocked until a handler has run, and then returns `EINTR`; blocked signals are as before.
//! CRIU: works.

use std::sync::atomic::{AtomicU32, Ordering};

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn catch(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

fn run(cx: &mut Context) {
    sys::handle(libc::SIGUSR1, catch, libc::SA_RESTART);
    let wait = || {
        // SAFETY: no arguments.
        let result = outcome(unsafe { libc::syscall(libc::SYS_pause) });
        (result, CAUGHT.load(Ordering::SeqCst))
    };
    until_woken(cx, libc::SYS_pause, &(Err(libc::EINTR), 1), wait, |tid| {
        check!(
            sys::queue(std::process::id() as i32, Some(tid), libc::SIGUSR1, 0).is_ok(),
            "signal"
        );
    });
}
