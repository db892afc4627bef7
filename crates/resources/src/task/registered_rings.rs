//! Rings of io_uring that a thread knows by other names than descriptors.
//!
//! - Kernel object: `io_uring_task.registered_rings`
//! - Truth from: `io_uring_enter(2)` for nothing, made by the thread itself under each of these names;
//!   where it has never used a ring, the first tells that there are none
//! - Image: none; a thread that has any is refused
//! - Scenarios: `refusals::io_uring_by_name`

use dormouse_kernel::io_uring::{ENTER_REGISTERED_RING, REGISTERED_RINGS};
use dormouse_kernel::{Errno, HostPid};
use dormouse_puppet::{Batch, Replies, Slot};

use super::refusal::Refusal;
use crate::Result;

/// What a thread says of one such name.
#[derive(Debug)]
pub struct RegisteredRing(Slot);

impl RegisteredRing {
    /// Asks for the first.
    pub fn ask(batch: &mut Batch) -> Self {
        Self::ask_for(0, batch)
    }

    /// Asks for every one.
    pub fn ask_all(batch: &mut Batch) -> Vec<Self> {
        (0..REGISTERED_RINGS).map(|name| Self::ask_for(name, batch)).collect()
    }

    fn ask_for(name: u32, batch: &mut Batch) -> Self {
        let flags = ENTER_REGISTERED_RING;
        let args = [name.into(), 0.into(), 0.into(), flags.into(), 0.into(), 0.into()];
        Self(batch.may_fail(libc::SYS_io_uring_enter, args))
    }

    /// Whether the thread can have a ring under any name: not if it has never used one
    /// (`EINVAL`, `io_uring/io_uring.c`), or the kernel knows of none.
    #[must_use]
    pub fn is_possible(&self, replies: &Replies) -> bool {
        !matches!(replies.result(&self.0), Err(Errno::INVAL | Errno::NOSYS))
    }

    /// Refuses a thread that has one under this name.
    ///
    /// # Errors
    /// It has.
    pub fn refuse(&self, tid: HostPid, replies: &Replies) -> Result<()> {
        if matches!(replies.result(&self.0), Err(Errno::INVAL | Errno::BADF | Errno::NOSYS)) {
            return Ok(());
        }
        Err(Refusal::RegisteredRing.error(format!("of thread {tid}")))
    }
}
