//! The signal a thread gets when its parent dies.
//!
//! - Kernel object: `task_struct.pdeath_signal`
//! - Truth from: `PR_GET_PDEATHSIG` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.pdeath_sig`

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::signal::Signal;
use dormouse_puppet::{Batch, OutSlot, Replies};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// The signal, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentDeath(Option<Signal>);

impl ParentDeath {
    /// Whether there is one.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.0.is_some()
    }
}

impl Property for ParentDeath {
    const NAME: &'static str = "parent-death signal";
    type Asked = OutSlot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let signal = batch.out(size_of::<i32>());
        batch.call(libc::SYS_prctl, [libc::PR_GET_PDEATHSIG.into(), (&signal).into()]);
        signal
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self(Signal::from_raw(i32::from_ne_bytes(*replies.array(&asked)))))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().pdeath_sig =
            Some(self.0.map_or(0, |signal| signal.as_raw() as u32));
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        match core.thread_core.as_ref().and_then(|thread| thread.pdeath_sig).unwrap_or(0) {
            0 => Ok(Self(None)),
            raw => i32::try_from(raw)
                .ok()
                .and_then(Signal::from_raw)
                .map(|signal| Self(Some(signal)))
                .ok_or_else(|| corrupt_core(Self::NAME, "not a signal")),
        }
    }

    fn apply(&self, batch: &mut Batch) {
        let signal = self.0.map_or(0, Signal::as_raw);
        batch.call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG.into(), signal.into()]);
    }
}
