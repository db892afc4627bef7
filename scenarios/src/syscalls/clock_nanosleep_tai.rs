//! `clock_nanosleep` for a time of atomic clocks (`CLOCK_TAI`), without a place for the remaining
//! time.
//!
//! Verified: it returns 0, no earlier than asked and not as if begun anew.
//! CRIU: returns `EINTR` (it has no way to rebuild a restart block).

use super::blocking::{for_a_time, outcome, wait_time};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    for_a_time(cx, libc::SYS_clock_nanosleep, &Ok(0), || {
        let time = wait_time();
        // SAFETY: the structure lives over the call.
        outcome(unsafe {
            libc::syscall(libc::SYS_clock_nanosleep, libc::CLOCK_TAI, 0, &raw const time, 0)
        })
    });
}
