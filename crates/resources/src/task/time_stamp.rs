//! Whether a thread may read the time-stamp counter.
//!
//! - Kernel object: `TIF_NOTSC` of `thread_info.flags`
//! - Truth from: `PR_GET_TSC` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.tsc`, an extension
//! - Scenarios: `threads::properties`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, OutSlot, Replies};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// `PR_TSC_ENABLE` or `PR_TSC_SIGSEGV`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeStamp(u32);

impl Property for TimeStamp {
    const NAME: &'static str = "time-stamp counter";
    type Asked = OutSlot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let mode = batch.out(size_of::<u32>());
        batch.call(libc::SYS_prctl, [libc::PR_GET_TSC.into(), (&mode).into()]);
        mode
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(u32::from_ne_bytes(*replies.array(&asked))))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().tsc = Some(self.0);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let enabled = libc::PR_TSC_ENABLE as u32;
        let mode = core.thread_core.as_ref().and_then(|thread| thread.tsc).unwrap_or(enabled);
        if mode != enabled && mode != libc::PR_TSC_SIGSEGV as u32 {
            return Err(corrupt_core(Self::NAME, "neither readable nor not"));
        }
        Ok(Self(mode))
    }

    fn apply(&self, batch: &mut Batch) {
        if self.0 != libc::PR_TSC_ENABLE as u32 {
            batch.call(libc::SYS_prctl, [libc::PR_SET_TSC.into(), self.0.into()]);
        }
    }
}
