//! What the calling thread may not do any more, nor whoever it makes: `prctl(2)`.
#![allow(unsafe_code)]

use std::ptr;

const PR_GET_SPECULATION_CTRL: i32 = 52;
const PR_SCHED_CORE: i32 = 62;
const PR_SCHED_CORE_GET: i32 = 0;
const PR_GET_MDWE: i32 = 66;
/// `PR_MDWE_REFUSE_EXEC_GAIN`, `PR_MDWE_NO_INHERIT`.
const REFUSE: i32 = 1;
const NOT_INHERITED: i32 = 2;

/// `PR_GET_SPECULATION_CTRL`; zero where the processor or the kernel has no such thing.
#[must_use]
pub fn speculation(kind: u32) -> u32 {
    // SAFETY: plain numbers.
    let said = unsafe { libc::prctl(PR_GET_SPECULATION_CTRL, kind, 0, 0, 0) };
    u32::try_from(said).unwrap_or(0)
}

/// Whether the children of this process cannot make writable memory executable.
#[must_use]
pub fn children_cannot_gain_execution() -> bool {
    // SAFETY: plain numbers.
    let said = unsafe { libc::prctl(PR_GET_MDWE, 0, 0, 0, 0) };
    said > 0 && said & (REFUSE | NOT_INHERITED) == REFUSE
}

/// Whether the thread minds with whom it shares a core.
#[must_use]
pub fn has_core_cookie() -> bool {
    let mut cookie = 0_u64;
    // SAFETY: the kernel writes eight bytes to `cookie`, if it knows the question.
    let answer =
        unsafe { libc::prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, 0, 0, ptr::from_mut(&mut cookie)) };
    answer == 0 && cookie != 0
}
