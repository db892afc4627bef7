//! Segments that a process has described to the processor.
//!
//! - Kernel object: `mm_struct.context.ldt`
//! - Truth from: `modify_ldt(2)` asked of the process itself
//! - Image: none; a process that has any is refused
//! - Scenarios: `refusals::local_descriptors`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, OutSlot, Replies, Slot};

use super::refusal::Refusal;
use super::{Property, TaskProbe};
use crate::Result;

/// A process without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalDescriptors;

/// Size of a descriptor in bytes.
const DESCRIPTOR: usize = 8;

impl Property for LocalDescriptors {
    const NAME: &'static str = "local descriptor table";
    type Asked = (Slot, OutSlot);

    fn ask(batch: &mut Batch) -> Self::Asked {
        const READ: i32 = 0;
        let first = batch.out(DESCRIPTOR);
        let args = [READ.into(), (&first).into(), (DESCRIPTOR as u64).into()];
        (batch.may_fail(libc::SYS_modify_ldt, args), first)
    }

    fn collect(task: &TaskProbe<'_>, replies: &Replies, (asked, _): Self::Asked) -> Result<Self> {
        // The answer has 32 bits, of which an error takes up the sign.
        match replies.result(&asked).map(|answer| answer as i32) {
            Ok(1..) => Err(Refusal::LocalDescriptors.error(format!("of pid {}", task.process))),
            _ => Ok(Self),
        }
    }

    fn encode(&self, _: &mut CoreEntry) {}

    fn decode(_: &CoreEntry) -> Result<Self> {
        Ok(Self)
    }

    fn apply(&self, _: &mut Batch) {}
}
