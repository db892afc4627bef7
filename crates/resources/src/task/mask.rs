//! The signal mask of a thread.
//!
//! - Kernel object: `task_struct.blocked`, or `saved_sigmask` while a call
//!   such as `ppoll` has replaced it
//! - Truth from: `PTRACE_GETSIGMASK`
//! - Image: `core-TID.img`, `thread_core.blk_sigset`; the leader's also in
//!   `tc.blk_sigset`

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::signal::SigSet;
use dormouse_puppet::{Batch, Replies};

use super::{Property, TaskProbe};
use crate::Result;

/// The signals that are blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(SigSet);

impl Mask {
    /// The set, to be given to the thread when it is released.
    #[must_use]
    pub const fn get(self) -> SigSet {
        self.0
    }
}

impl Property for Mask {
    const NAME: &'static str = "signal mask";
    type Asked = ();

    fn ask(_: &mut Batch) -> Self::Asked {}

    fn collect(task: &TaskProbe<'_>, _: &Replies, (): Self::Asked) -> Result<Self> {
        Ok(Self(task.mask))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().blk_sigset = Some(self.0.as_raw());
        if let Some(tc) = &mut core.tc {
            tc.blk_sigset = self.0.as_raw();
        }
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let of_thread = core.thread_core.as_ref().and_then(|thread| thread.blk_sigset);
        let of_task = core.tc.as_ref().map(|tc| tc.blk_sigset);
        Ok(Self(SigSet::from_raw(of_thread.or(of_task).unwrap_or(0))))
    }

    /// A puppet runs with its own mask; the thread gets this one with its
    /// registers.
    fn apply(&self, _: &mut Batch) {}
}
