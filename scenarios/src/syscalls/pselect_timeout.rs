//! `pselect6` on nothing at all, with a timeout and a signal mask.
//!
//! Verified: it returns 0, with no time remaining, no earlier than asked and not as if begun anew.
//! CRIU: works, waiting for the time remaining.

use super::blocking::{for_a_time, outcome, wait_time};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    for_a_time(cx, libc::SYS_pselect6, &(Ok(0), (0, 0)), || {
        let (mut time, mask) = (wait_time(), sys::sigset(&[libc::SIGUSR1, 40]));
        // The sixth argument is the mask's address and size.
        let sized = [(&raw const mask).addr(), 8];
        // SAFETY: all structures live over the call.
        let result = unsafe {
            libc::syscall(libc::SYS_pselect6, 0, 0, 0, 0, &raw mut time, &raw const sized)
        };
        (outcome(result), (time.tv_sec, time.tv_nsec))
    });
}
