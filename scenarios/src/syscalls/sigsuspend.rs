//! `rt_sigsuspend` with a mask that lets through what is blocked otherwise.
//!
//! Verified: it stays blocked until that signal comes (others stay pending), and then returns `EINTR`; blocked signals are as before.
//! CRIU: works.

use std::sync::atomic::{AtomicU32, Ordering};

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn catch(signal: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    CAUGHT.fetch_add(signal as u32, Ordering::SeqCst);
}

fn run(cx: &mut Context) {
    for signal in [libc::SIGUSR1, libc::SIGUSR2] {
        sys::handle(signal, catch, libc::SA_RESTART);
    }
    sys::block(sys::sigset(&[libc::SIGUSR1, libc::SIGUSR2]));
    let wait = || {
        let mask = sys::sigset(&[libc::SIGUSR2]);
        // SAFETY: the mask lives over the call and has eight bytes.
        let result =
            outcome(unsafe { libc::syscall(libc::SYS_rt_sigsuspend, &raw const mask, 8usize) });
        (result, CAUGHT.load(Ordering::SeqCst), sys::pending())
    };
    let expected = (Err(libc::EINTR), libc::SIGUSR1 as u32, sys::sigset(&[libc::SIGUSR2]));
    until_woken(cx, libc::SYS_rt_sigsuspend, &expected, wait, |tid| {
        for signal in [libc::SIGUSR2, libc::SIGUSR1] {
            check!(sys::queue(std::process::id() as i32, Some(tid), signal, 0).is_ok(), "signal");
        }
    });
}
