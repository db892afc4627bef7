//! Whether a process chooses the numbers of its new POSIX timers itself.
//!
//! - Kernel object: `signal_struct.timer_create_restore_ids`
//! - Truth from: `PR_TIMER_CREATE_RESTORE_IDS_GET` asked of the process itself
//! - Image: `core-PID.img`, `tc.timer_numbers`, an extension
//! - Apply: after its timers, for whose sake dormouse changes it
//! - Kernel needed: 6.15; before, none does
//! - Scenarios: `threads::properties`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;

/// Whether `timer_create(2)` takes a number instead of giving one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerNumbering(bool);

const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
const ON: i32 = 1;
const GET: i32 = 2;

impl Property for TimerNumbering {
    const NAME: &'static str = "numbering of timers";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let zero = || 0.into();
        let args = [PR_TIMER_CREATE_RESTORE_IDS.into(), GET.into(), zero(), zero(), zero()];
        batch.may_fail(libc::SYS_prctl, args)
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(replies.result(&asked) == Ok(1)))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().timer_numbers = self.0.then_some(true);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        Ok(Self(core.tc.as_ref().and_then(|tc| tc.timer_numbers).unwrap_or(false)))
    }

    fn apply(&self, batch: &mut Batch) {
        if self.0 {
            let zero = || 0.into();
            let args = [PR_TIMER_CREATE_RESTORE_IDS.into(), ON.into(), zero(), zero(), zero()];
            batch.call(libc::SYS_prctl, args);
        }
    }
}
