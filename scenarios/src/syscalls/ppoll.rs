//! `ppoll` without end, with a signal mask that lets one signal through which is blocked otherwise.
//!
//! Verified: it stays blocked until that signal comes, and then returns `EINTR`, after its handler; blocked signals are as before.
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
    sys::block(sys::sigset(&[libc::SIGUSR1, libc::SIGUSR2]));
    let wait = || {
        let mask = sys::sigset(&[libc::SIGUSR2]);
        // SAFETY: the mask lives over the call and has eight bytes.
        outcome(unsafe { libc::syscall(libc::SYS_ppoll, 0, 0, 0, &raw const mask, 8usize) })
    };
    until_woken(cx, libc::SYS_ppoll, &Err(libc::EINTR), wait, |tid| {
        check_eq!(CAUGHT.load(Ordering::SeqCst), 0, "signals caught before");
        check!(
            sys::queue(std::process::id() as i32, Some(tid), libc::SIGUSR1, 0).is_ok(),
            "signal"
        );
    });
    check_eq!(CAUGHT.load(Ordering::SeqCst), 1, "signals caught");
}
