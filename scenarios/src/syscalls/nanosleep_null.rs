//! `nanosleep` without a place for the remaining time.
//!
//! Verified: it returns 0, no earlier than asked and not as if begun anew.
//! CRIU: returns `EINTR`.

use super::blocking::{for_a_time, outcome, wait_time};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    for_a_time(cx, libc::SYS_nanosleep, &Ok(0), || {
        let time = wait_time();
        // SAFETY: the structure lives over the call.
        outcome(unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, 0) })
    });
}
