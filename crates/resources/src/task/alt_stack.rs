//! The alternate signal stack of a thread.
//!
//! - Kernel object: `task_struct.sas_ss_{sp,size,flags}`
//! - Truth from: `sigaltstack(2)` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.sas`
//! - Not preserved: nothing. `SS_ONSTACK` follows from the stack pointer and
//!   is not kept.
//! - Scenarios: `signals::altstack_idle`, `signals::altstack_busy`, `signals::altstack_none`

use dormouse_image::proto::core::{CoreEntry, ThreadSasEntry};
use dormouse_puppet::{Batch, OutSlot, Replies};

use super::{Property, TaskProbe};
use crate::Result;

/// The stack registered with `sigaltstack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltStack {
    base: u64,
    /// Bytes.
    size: u64,
    /// `SS_DISABLE`, `SS_AUTODISARM`.
    flags: u32,
}

/// `struct sigaltstack`: pointer, flags padded to eight bytes, size.
const STACK_T: usize = 24;

impl Property for AltStack {
    const NAME: &'static str = "alternate signal stack";
    type Asked = OutSlot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let stack = batch.out(STACK_T);
        batch.call(libc::SYS_sigaltstack, [0.into(), (&stack).into()]);
        stack
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        let bytes: &[u8; STACK_T] = replies.array(&asked);
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        let flags = u32::try_from(word(8) & 0xffff_ffff).expect("masked to 32 bits");
        Ok(Self { base: word(0), size: word(16), flags: flags & !(libc::SS_ONSTACK as u32) })
    }

    fn encode(&self, core: &mut CoreEntry) {
        let &Self { base, size, flags } = self;
        core.thread_core.get_or_insert_default().sas =
            Some(ThreadSasEntry { ss_sp: base, ss_size: size, ss_flags: flags });
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let sas = core.thread_core.as_ref().and_then(|thread| thread.sas.as_ref());
        Ok(sas.map_or(Self { base: 0, size: 0, flags: libc::SS_DISABLE as u32 }, |sas| Self {
            base: sas.ss_sp,
            size: sas.ss_size,
            flags: sas.ss_flags & !(libc::SS_ONSTACK as u32),
        }))
    }

    fn apply(&self, batch: &mut Batch) {
        // Even one that is disabled: a child has inherited dormouse's own.
        let mut bytes = [0; STACK_T];
        bytes[0..8].copy_from_slice(&self.base.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_ne_bytes());
        let stack = batch.data(&bytes);
        batch.call(libc::SYS_sigaltstack, [stack.into(), 0.into()]);
    }
}
