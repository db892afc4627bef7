//! A futex wait with a relative timeout.
//!
//! Verified: it returns `ETIMEDOUT`, no earlier than asked and not as if begun anew.
//! CRIU: returns `EINTR`.

use std::sync::atomic::AtomicU32;

use super::blocking::{for_a_time, outcome, wait_time};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static WORD: AtomicU32 = AtomicU32::new(7);

fn run(cx: &mut Context) {
    for_a_time(cx, libc::SYS_futex, &Err(libc::ETIMEDOUT), || {
        let time = wait_time();
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: word and time live over the call.
        outcome(unsafe {
            libc::syscall(libc::SYS_futex, WORD.as_ptr(), operation, 7, &raw const time, 0, 0)
        })
    });
}
