//! The address the kernel clears and wakes when a thread ends.
//!
//! - Kernel object: `task_struct.clear_child_tid`
//! - Truth from: `PR_GET_TID_ADDRESS` asked of the thread itself
//! - Image: `core-TID.img`, `thread_info.clear_tid_addr`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, OutSlot, Replies};

use super::{Property, TaskProbe};
use crate::Result;

/// The address; zero for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TidAddress(u64);

impl Property for TidAddress {
    const NAME: &'static str = "clear_child_tid";
    type Asked = OutSlot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let address = batch.out(size_of::<u64>());
        batch.call(libc::SYS_prctl, [libc::PR_GET_TID_ADDRESS.into(), (&address).into()]);
        address
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(u64::from_ne_bytes(*replies.array(&asked))))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_info.get_or_insert_default().clear_tid_addr = self.0;
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        Ok(Self(core.thread_info.as_ref().map_or(0, |info| info.clear_tid_addr)))
    }

    fn apply(&self, batch: &mut Batch) {
        batch.call(libc::SYS_set_tid_address, [self.0.into()]);
    }
}
