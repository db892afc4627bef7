//! A futex wait without end.
//!
//! Verified: it stays blocked until the futex is woken, and then returns 0; blocked signals are as before.
//! CRIU: works.

use std::sync::atomic::AtomicU32;

use super::blocking::{outcome, until_woken};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static WORD: AtomicU32 = AtomicU32::new(7);

fn run(cx: &mut Context) {
    let call = |operation: i32, value: u32| {
        let operation = operation | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word is static; no time is given.
        outcome(unsafe { libc::syscall(libc::SYS_futex, WORD.as_ptr(), operation, value, 0, 0, 0) })
    };
    until_woken(
        cx,
        libc::SYS_futex,
        &Ok(0),
        move || call(libc::FUTEX_WAIT, 7),
        |_| {
            check_eq!(call(libc::FUTEX_WAKE, 10), Ok(1), "threads woken");
        },
    );
}
