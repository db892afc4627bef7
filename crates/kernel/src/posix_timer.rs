//! Numbers of POSIX timers.
#![allow(unsafe_code)]

use crate::sys::check;

/// `PR_TIMER_CREATE_RESTORE_IDS` of `prctl(2)`, Linux 6.15: `timer_create(2)`
/// takes the number that its third argument points to.
pub const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
/// Ends that.
pub const PR_TIMER_CREATE_RESTORE_IDS_OFF: u64 = 0;
/// Begins it.
pub const PR_TIMER_CREATE_RESTORE_IDS_ON: u64 = 1;
/// Asks whether it is so.
const PR_TIMER_CREATE_RESTORE_IDS_GET: u64 = 2;

/// Whether the kernel lets a process choose the numbers of its timers. If not,
/// a new process gets 0, 1, 2 and so on.
#[must_use]
pub fn number_can_be_chosen() -> bool {
    // SAFETY: all arguments are plain numbers; nothing changes.
    let answer = unsafe {
        libc::prctl(
            PR_TIMER_CREATE_RESTORE_IDS,
            PR_TIMER_CREATE_RESTORE_IDS_GET,
            0_u64,
            0_u64,
            0_u64,
        )
    };
    check(answer.into()).is_ok()
}
