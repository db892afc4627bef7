//! The priority of a thread's I/O.
//!
//! - Kernel object: `io_context.ioprio`
//! - Truth from: `ioprio_get(2)` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.io_priority`, an extension
//! - Privileges needed: `CAP_SYS_NICE` for the real-time class
//! - Not preserved: that tasks share it (`CLONE_IO`)
//! - Scenarios: `threads::properties`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// A class in the upper three of 16 bits, a level below; zero if it follows
/// from the nice value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPriority(u16);

const WHO_PROCESS: i32 = 1;

impl Property for IoPriority {
    const NAME: &'static str = "I/O priority";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        batch.call(libc::SYS_ioprio_get, [WHO_PROCESS.into(), 0.into()])
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        let priority = dormouse_kernel::sched::IoPriority::from_raw(replies.value(&asked) as u16);
        Ok(Self(if priority.class() == 0 { 0 } else { priority.as_raw() }))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().io_priority =
            (self.0 != 0).then_some(self.0.into());
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let priority = core.thread_core.as_ref().and_then(|thread| thread.io_priority);
        match u16::try_from(priority.unwrap_or(0)) {
            Ok(priority) => Ok(Self(priority)),
            Err(_) => Err(corrupt_core(Self::NAME, "of more than 16 bits")),
        }
    }

    fn apply(&self, batch: &mut Batch) {
        if self.0 != 0 {
            let priority = u32::from(self.0);
            batch.call(libc::SYS_ioprio_set, [WHO_PROCESS.into(), 0.into(), priority.into()]);
        }
    }
}
