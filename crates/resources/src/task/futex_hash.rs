//! How many slots the table has in which the kernel finds the futexes of a process.
//!
//! A process gets a table of its own when it makes its first thread, and a larger one with more
//! threads; one that is asked for stays. One without slots is that of all processes.
//!
//! - Kernel object: `mm_struct.futex_phash`
//! - Truth from: `PR_FUTEX_HASH_GET_SLOTS` asked of the process itself; `futex_hash_allocate_default`
//!   in `kernel/futex/core.c`
//! - Image: `core-PID.img`, `tc.futex_slots`, an extension; only if there are others than the kernel
//!   would give
//! - Kernel needed: 6.17; before, all processes have one table
//! - Not preserved: that it was asked for, if it is as large as the kernel makes it; that it cannot be
//!   changed (`FH_FLAG_IMMUTABLE`, which only some builds of 6.16 have)
//! - Scenarios: `threads::futex_hash`

use std::num::NonZero;
use std::sync::LazyLock;
use std::thread;

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// The number of slots, if the kernel does not choose it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexHash(Option<u32>);

const PR_FUTEX_HASH: i32 = 78;
const SET_SLOTS: u64 = 1;
const GET_SLOTS: u64 = 2;
/// The fewest the kernel gives.
const FEWEST: u32 = 16;
const FOR_EACH: u32 = 4;

/// To ask for that takes files.
static PROCESSORS: LazyLock<u32> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get) as u32);

/// What the kernel gives a process with so many threads: it looks when the last is about to be made.
fn usual(threads: u32) -> u32 {
    match threads {
        0 | 1 => 0,
        _ => (FOR_EACH * (threads - 1).min(*PROCESSORS)).next_power_of_two().max(FEWEST),
    }
}

impl Property for FutexHash {
    const NAME: &'static str = "futex hash";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let none = || 0.into();
        batch.may_fail(
            libc::SYS_prctl,
            [PR_FUTEX_HASH.into(), GET_SLOTS.into(), none(), none(), none()],
        )
    }

    fn collect(task: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        let slots = replies.result(&asked).ok().map(|slots| slots as u32);
        Ok(Self(slots.filter(|slots| *slots != usual(task.status.threads))))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().futex_slots = self.0;
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        match core.tc.as_ref().and_then(|tc| tc.futex_slots) {
            Some(slots) if slots == 1 || (slots != 0 && !slots.is_power_of_two()) => {
                Err(corrupt_core(Self::NAME, "a number of slots there cannot be"))
            }
            slots => Ok(Self(slots)),
        }
    }

    fn apply(&self, batch: &mut Batch) {
        if let Some(slots) = self.0 {
            let none = || 0.into();
            let args = [PR_FUTEX_HASH.into(), SET_SLOTS.into(), slots.into(), none(), none()];
            batch.call(libc::SYS_prctl, args);
        }
    }
}
