//! `rt_sigtimedwait` without a time, for blocked signals.
//!
//! Verified: it stays blocked until one comes, and then returns its number, with its payload; blocked signals are as before.
//! CRIU: returns `EINTR`.

use super::blocking::{outcome, until_woken};
use crate::sys::SigInfo;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let set = sys::sigset(&[libc::SIGUSR1, 50]);
    sys::block(set);
    let wait = move || {
        // SAFETY: all zeros is a `siginfo_t`.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: both live over the call; the set has eight bytes.
        let result = unsafe {
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, &raw mut info, 0, 8usize)
        };
        (outcome(result), SigInfo::from(&info).value)
    };
    until_woken(cx, libc::SYS_rt_sigtimedwait, &(Ok(50), 1234), wait, |tid| {
        check!(sys::queue(std::process::id() as i32, Some(tid), 50, 1234).is_ok(), "signal");
    });
}
