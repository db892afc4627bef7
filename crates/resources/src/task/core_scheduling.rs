//! With whom a thread may share a processor's core.
//!
//! - Kernel object: `task_struct.core_cookie`
//! - Truth from: `PR_SCHED_CORE_GET` asked of the thread itself
//! - Image: none; a thread that minds is refused
//! - Kernel needed: `CONFIG_SCHED_CORE`; without, nobody minds

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, OutSlot, Replies, Slot};

use super::refusal::Refusal;
use super::{Property, TaskProbe};
use crate::Result;

/// A thread that minds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreScheduling;

const PR_SCHED_CORE: i32 = 62;
const GET: i32 = 0;

impl Property for CoreScheduling {
    const NAME: &'static str = "core scheduling";
    type Asked = (Slot, OutSlot);

    fn ask(batch: &mut Batch) -> Self::Asked {
        let cookie = batch.out(size_of::<u64>());
        let args = [PR_SCHED_CORE.into(), GET.into(), 0.into(), 0.into(), (&cookie).into()];
        (batch.may_fail(libc::SYS_prctl, args), cookie)
    }

    fn collect(
        task: &TaskProbe<'_>,
        replies: &Replies,
        (asked, cookie): Self::Asked,
    ) -> Result<Self> {
        if replies.result(&asked).is_ok() && u64::from_ne_bytes(*replies.array(&cookie)) != 0 {
            return Err(Refusal::CoreScheduling.error(format!("of tid {}", task.tid)));
        }
        Ok(Self)
    }

    fn encode(&self, _: &mut CoreEntry) {}

    fn decode(_: &CoreEntry) -> Result<Self> {
        Ok(Self)
    }

    fn apply(&self, _: &mut Batch) {}
}
