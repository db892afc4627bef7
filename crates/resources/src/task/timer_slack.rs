//! How late timers of a thread may be.
//!
//! - Kernel object: `task_struct.timer_slack_ns`
//! - Truth from: `PR_GET_TIMERSLACK` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.timer_slack`, an extension
//! - Not preserved: the default, to which a thread can go back; it becomes the
//!   slack restored
//! - Scenarios: `threads::properties`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;

/// Nanoseconds; zero for a thread under a real-time policy, which has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSlack(u64);

impl Property for TimerSlack {
    const NAME: &'static str = "timer slack";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        batch.call(libc::SYS_prctl, [libc::PR_GET_TIMERSLACK.into()])
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(replies.value(&asked)))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().timer_slack = Some(self.0);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        Ok(Self(core.thread_core.as_ref().and_then(|thread| thread.timer_slack).unwrap_or(0)))
    }

    fn apply(&self, batch: &mut Batch) {
        // Zero would stand for the default.
        if self.0 != 0 {
            batch.call(libc::SYS_prctl, [libc::PR_SET_TIMERSLACK.into(), self.0.into()]);
        }
    }
}
