//! The execution domain of a process.
//!
//! - Kernel object: `task_struct.personality`
//! - Truth from: `personality(0xffffffff)` asked of the process itself
//! - Image: `core-PID.img`, `tc.personality`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;

/// `PER_*` and flags such as `ADDR_NO_RANDOMIZE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Personality(u32);

/// Asks instead of setting.
const QUERY: u64 = 0xffff_ffff;

impl Property for Personality {
    const NAME: &'static str = "personality";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        batch.call(libc::SYS_personality, [QUERY.into()])
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(replies.value(&asked) as u32))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().personality = self.0;
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        Ok(Self(core.tc.as_ref().map_or(0, |tc| tc.personality)))
    }

    fn apply(&self, batch: &mut Batch) {
        batch.call(libc::SYS_personality, [self.0.into()]);
    }
}
