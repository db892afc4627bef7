//! What a thread is told of broken memory.
//!
//! - Kernel object: `PF_MCE_PROCESS` and `PF_MCE_EARLY` of `task_struct.flags`
//! - Truth from: `PR_MCE_KILL_GET` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.mce_kill`, an extension
//! - Scenarios: `threads::properties`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// `PR_MCE_KILL_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineCheck(u32);

impl Property for MachineCheck {
    const NAME: &'static str = "machine-check policy";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let zero = || 0.into();
        let args = [libc::PR_MCE_KILL_GET.into(), zero(), zero(), zero(), zero()];
        batch.call(libc::SYS_prctl, args)
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(replies.value(&asked) as u32))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().mce_kill = Some(self.0);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let default = libc::PR_MCE_KILL_DEFAULT as u32;
        let policy = core.thread_core.as_ref().and_then(|thread| thread.mce_kill);
        match policy.unwrap_or(default) {
            policy if policy <= default => Ok(Self(policy)),
            _ => Err(corrupt_core(Self::NAME, "none there is")),
        }
    }

    fn apply(&self, batch: &mut Batch) {
        if self.0 != libc::PR_MCE_KILL_DEFAULT as u32 {
            let set = libc::PR_MCE_KILL_SET;
            batch.call(
                libc::SYS_prctl,
                [libc::PR_MCE_KILL.into(), set.into(), self.0.into(), 0.into(), 0.into()],
            );
        }
    }
}
