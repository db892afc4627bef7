//! What a process has announced to use of `membarrier(2)`.
//!
//! - Kernel object: `mm_struct.membarrier_state`
//! - Truth from: `MEMBARRIER_CMD_GET_REGISTRATIONS` asked of the process itself
//! - Image: `core-PID.img`, `tc.membarrier_registration_mask`
//! - Kernel needed: 6.3 to ask; before, a process counts as having announced
//!   nothing
//! - Scenarios: `threads::properties`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// `MEMBARRIER_CMD_REGISTER_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membarrier(u32);

/// `MEMBARRIER_CMD_GET_REGISTRATIONS`.
const GET_REGISTRATIONS: i32 = 1 << 9;
/// The commands that register: global, private, private with a serialising
/// instruction, private with restartable sequences.
const REGISTER: [u32; 4] = [1 << 2, 1 << 4, 1 << 6, 1 << 8];

impl Property for Membarrier {
    const NAME: &'static str = "membarrier registrations";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        batch.may_fail(libc::SYS_membarrier, [GET_REGISTRATIONS.into(), 0.into(), 0.into()])
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(replies.result(&asked).unwrap_or(0) as u32))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().membarrier_registration_mask =
            (self.0 != 0).then_some(self.0);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let mask = core.tc.as_ref().and_then(|tc| tc.membarrier_registration_mask).unwrap_or(0);
        if mask & !REGISTER.iter().sum::<u32>() != 0 {
            return Err(corrupt_core(Self::NAME, "commands that register nothing"));
        }
        Ok(Self(mask))
    }

    fn apply(&self, batch: &mut Batch) {
        for command in REGISTER.into_iter().filter(|command| self.0 & command != 0) {
            batch.call(libc::SYS_membarrier, [command.into(), 0.into(), 0.into()]);
        }
    }
}
