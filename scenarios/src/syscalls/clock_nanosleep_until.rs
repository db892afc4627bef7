//! `clock_nanosleep` until a moment (`TIMER_ABSTIME`) of the monotonic clock.
//!
//! Verified: it returns 0, no earlier than asked and not as if begun anew.
//! CRIU: works.

use super::blocking::{for_a_time, outcome, wait_time};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    for_a_time(cx, libc::SYS_clock_nanosleep, &Ok(0), || {
        let (clock, wait) = (libc::CLOCK_MONOTONIC, wait_time());
        let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the structure lives over both calls.
        unsafe {
            libc::clock_gettime(clock, &raw mut until);
            let nanoseconds = until.tv_nsec + wait.tv_nsec;
            until.tv_sec += wait.tv_sec + nanoseconds / 1_000_000_000;
            until.tv_nsec = nanoseconds % 1_000_000_000;
            outcome(libc::syscall(
                libc::SYS_clock_nanosleep,
                clock,
                libc::TIMER_ABSTIME,
                &raw const until,
                0,
            ))
        }
    });
}
