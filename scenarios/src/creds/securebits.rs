//! Secure bits, with some of their locks.
//!
//! Verified: `PR_GET_SECUREBITS`; a locked bit cannot be changed, another can.
//! CRIU: works.

use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

/// `include/uapi/linux/securebits.h`: NOROOT and its lock, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE.
const BITS: i32 = 0b11 | 0b100 | 0x40;

fn set(bits: i32) -> i32 {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) }
}

fn run(cx: &mut Context) {
    check_eq!(set(BITS), 0, "PR_SET_SECUREBITS");
    cx.ready_and_wait();
    // SAFETY: plain numbers.
    let found = unsafe { libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0) };
    check_eq!(found, BITS, "PR_GET_SECUREBITS");
    check_eq!(set(BITS & !1), -1, "clearing a locked bit");
    check_eq!(set(BITS & !0b100), 0, "clearing a bit that is not locked");
}
