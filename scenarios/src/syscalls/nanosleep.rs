//! `nanosleep`, with a place for the remaining time.
//!
//! Verified: it returns 0, no earlier than asked, and not as if begun anew; the remaining
//! time is not written.
//! CRIU: returns `EINTR` with the remaining time (it has no way to rebuild a restart block).

use super::sleeping::{WAIT, over_checkpoint};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    over_checkpoint(cx, libc::SYS_nanosleep, (0, 77, 88), || {
        let time =
            libc::timespec { tv_sec: WAIT.as_secs() as i64, tv_nsec: WAIT.subsec_nanos().into() };
        let mut left = libc::timespec { tv_sec: 77, tv_nsec: 88 };
        // SAFETY: both structures live over the call.
        let result = unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, &raw mut left) };
        (result, left.tv_sec, left.tv_nsec)
    });
}
