//! `rt_sigtimedwait` for a signal that does not come.
//!
//! Verified: it returns `EAGAIN`, no earlier than asked and not as if begun anew.
//! CRIU: returns `EINTR`.

use super::blocking::{for_a_time, outcome, wait_time};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    sys::block(sys::sigset(&[libc::SIGUSR1]));
    for_a_time(cx, libc::SYS_rt_sigtimedwait, &Err(libc::EAGAIN), || {
        let (set, time) = (sys::sigset(&[libc::SIGUSR1]), wait_time());
        // SAFETY: set and time live over the call; the set has eight bytes.
        outcome(unsafe {
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, 0, &raw const time, 8usize)
        })
    });
}
