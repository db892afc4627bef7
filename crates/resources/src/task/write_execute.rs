//! Whether a process may make writable memory executable.
//!
//! - Kernel object: `MMF_HAS_MDWE` and `MMF_HAS_MDWE_NO_INHERIT` of `mm_struct.flags`
//! - Truth from: `PR_GET_MDWE` asked of the process itself
//! - Image: `core-PID.img`, `tc.mdwe`, an extension
//! - Kernel needed: 6.3; before, there is no such thing
//! - Scenarios: `threads::properties`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// `PR_MDWE_*`; it cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteExecute(u32);

const PR_SET_MDWE: i32 = 65;
const PR_GET_MDWE: i32 = 66;
/// `PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT`.
const ALL: u32 = 3;

impl Property for WriteExecute {
    const NAME: &'static str = "write-execute protection";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let zero = || 0.into();
        batch.may_fail(libc::SYS_prctl, [PR_GET_MDWE.into(), zero(), zero(), zero(), zero()])
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(replies.result(&asked).unwrap_or(0) as u32))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().mdwe = (self.0 != 0).then_some(self.0);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        match core.tc.as_ref().and_then(|tc| tc.mdwe).unwrap_or(0) {
            flags if flags & !ALL == 0 => Ok(Self(flags)),
            _ => Err(corrupt_core(Self::NAME, "flags there are not")),
        }
    }

    fn apply(&self, batch: &mut Batch) {
        if self.0 != 0 {
            let zero = || 0.into();
            let args = [PR_SET_MDWE.into(), self.0.into(), zero(), zero(), zero()];
            batch.call(libc::SYS_prctl, args);
        }
    }
}
