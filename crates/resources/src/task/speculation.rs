//! What a thread has said about the processor's speculation.
//!
//! - Kernel object: `task_struct.atomic_flags`, `TIF_SPEC_*`
//! - Truth from: `PR_GET_SPECULATION_CTRL` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.speculation`, an extension
//! - Scenarios: `threads::properties`

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::restriction;
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
pub(super) const PR_SET_SPECULATION_CTRL: i32 = 53;
/// What each is where nobody has said anything: `PR_SPEC_ENABLE` twice, for what makes programs
/// faster; and `PR_SPEC_DISABLE`, for what makes them safer.
pub(super) const USUAL: [u32; KINDS] = [1 << 1, 1 << 1, 1 << 2];
/// `PR_SPEC_FORCE_DISABLE`, which nobody can take back.
const FORCED: u32 = 1 << 3;
/// `PR_SPEC_PRCTL`: the thread decides.
const DECIDES: u32 = 1;
/// `PR_SPEC_ENABLE`, `PR_SPEC_DISABLE`, `PR_SPEC_FORCE_DISABLE`,
/// `PR_SPEC_DISABLE_NOEXEC`.
const DECISIONS: u32 = 0b1_1110;

impl Speculation {
    /// As the calling thread has it.
    pub(super) fn of_self() -> Self {
        Self(std::array::from_fn(|kind| restriction::speculation(kind as u32)))
    }

    /// Whether there is a kind that it can never be allowed again, and that `other` is not forbidden in
    /// the same way.
    pub(super) fn forbids_more_than(&self, other: &Self) -> bool {
        let is_forced = |said: u32| said & DECIDES != 0 && said & FORCED != 0;
        self.0.iter().zip(other.0).any(|(&own, other)| is_forced(own) && !is_forced(other))
    }
}

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
        for ((kind, said), usual) in (0_u64..).zip(self.0).zip(USUAL) {
            let decision = said & DECISIONS;
            if said & DECIDES == 0 || decision == usual {
                continue;
            }
            let args =
                [PR_SET_SPECULATION_CTRL.into(), kind.into(), decision.into(), 0.into(), 0.into()];
            batch.call(libc::SYS_prctl, args);
        }
    }
}
