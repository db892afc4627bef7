//! What a thread has said about the processor's speculation.
//!
//! - Kernel object: `task_struct.atomic_flags`, `TIF_SPEC_*`
//! - Truth from: `PR_GET_SPECULATION_CTRL` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.speculation`, an extension
//! - Scenarios: `threads::properties`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// `PR_SPEC_*` for each kind of speculation; zero where the processor or the
/// kernel has no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speculation([u32; KINDS]);

/// `PR_SPEC_STORE_BYPASS`, `PR_SPEC_INDIRECT_BRANCH`, `PR_SPEC_L1D_FLUSH`.
const KINDS: usize = 3;
const PR_GET_SPECULATION_CTRL: i32 = 52;
const PR_SET_SPECULATION_CTRL: i32 = 53;
/// `PR_SPEC_PRCTL`: the thread decides.
const DECIDES: u32 = 1;
/// `PR_SPEC_ENABLE`, `PR_SPEC_DISABLE`, `PR_SPEC_FORCE_DISABLE`,
/// `PR_SPEC_DISABLE_NOEXEC`.
const DECISIONS: u32 = 0b1_1110;

impl Property for Speculation {
    const NAME: &'static str = "speculation control";
    type Asked = [Slot; KINDS];

    fn ask(batch: &mut Batch) -> Self::Asked {
        std::array::from_fn(|kind| {
            let args = [
                PR_GET_SPECULATION_CTRL.into(),
                (kind as u64).into(),
                0.into(),
                0.into(),
                0.into(),
            ];
            batch.may_fail(libc::SYS_prctl, args)
        })
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(asked.map(|slot| replies.result(&slot).unwrap_or(0) as u32)))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().speculation = self.0.to_vec();
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let kinds = core.thread_core.as_ref().map_or(&[][..], |thread| &thread.speculation);
        if kinds.is_empty() {
            return Ok(Self([0; KINDS]));
        }
        match kinds.try_into() {
            Ok(kinds) => Ok(Self(kinds)),
            Err(_) => Err(corrupt_core(Self::NAME, "of other kinds than there are")),
        }
    }

    fn apply(&self, batch: &mut Batch) {
        for (kind, said) in (0_u64..).zip(self.0) {
            // What is the default everywhere need not be said.
            let decision = said & DECISIONS;
            if said & DECIDES == 0 || decision == libc::PR_SPEC_ENABLE {
                continue;
            }
            let args =
                [PR_SET_SPECULATION_CTRL.into(), kind.into(), decision.into(), 0.into(), 0.into()];
            batch.call(libc::SYS_prctl, args);
        }
    }
}
