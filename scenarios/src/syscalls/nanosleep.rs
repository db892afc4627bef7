//! `nanosleep`, with a place for the remaining time.
//!
//! Verified: it returns 0, no earlier than asked and not as if begun anew; the remaining time is
//! not written.
//! CRIU: returns `EINTR` with the remaining time (it has no way to rebuild a restart block).

use super::blocking::{for_a_time, outcome, wait_time};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    for_a_time(cx, libc::SYS_nanosleep, &(Ok(0), 77, 88), || {
        let (time, mut left) = (wait_time(), libc::timespec { tv_sec: 77, tv_nsec: 88 });
        // SAFETY: both structures live over the call.
        let result = unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, &raw mut left) };
        (outcome(result), left.tv_sec, left.tv_nsec)
    });
}
