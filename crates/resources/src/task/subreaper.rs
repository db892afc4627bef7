//! Whether a process adopts the orphans below it.
//!
//! - Kernel object: `signal_struct.is_child_subreaper`
//! - Truth from: `PR_GET_CHILD_SUBREAPER` asked of the process itself
//! - Image: `core-PID.img`, `tc.child_subreaper`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, OutSlot, Replies};

use super::{Property, TaskProbe};
use crate::Result;

/// The flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subreaper(bool);

impl Property for Subreaper {
    const NAME: &'static str = "child subreaper";
    type Asked = OutSlot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let flag = batch.out(size_of::<i32>());
        batch.call(libc::SYS_prctl, [libc::PR_GET_CHILD_SUBREAPER.into(), (&flag).into()]);
        flag
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(i32::from_ne_bytes(*replies.array(&asked)) != 0))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().child_subreaper = Some(self.0);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        Ok(Self(core.tc.as_ref().and_then(|tc| tc.child_subreaper).unwrap_or(false)))
    }

    fn apply(&self, batch: &mut Batch) {
        if self.0 {
            batch.call(libc::SYS_prctl, [libc::PR_SET_CHILD_SUBREAPER.into(), 1.into()]);
        }
    }
}
