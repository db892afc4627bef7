//! The restartable-sequences area of a thread.
//!
//! - Kernel object: `task_struct.{rseq, rseq_len, rseq_sig}`
//! - Truth from: `PTRACE_GET_RSEQ_CONFIGURATION`
//! - Image: `core-TID.img`, `thread_core.rseq_entry`
//! - Kernel needed: 5.13 for the ptrace request

use dormouse_image::proto::core::{CoreEntry, RseqEntry};
use dormouse_puppet::{Batch, Replies};

use super::{Property, TaskProbe};
use crate::Result;

/// The registration, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rseq(Option<Area>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area {
    address: u64,
    /// Bytes.
    size: u32,
    signature: u32,
}

impl Property for Rseq {
    const NAME: &'static str = "restartable sequences";
    type Asked = ();

    fn ask(_: &mut Batch) -> Self::Asked {}

    fn collect(task: &TaskProbe<'_>, _: &Replies, (): Self::Asked) -> Result<Self> {
        Ok(Self(task.rseq.map(|config| Area {
            address: config.addr.as_raw(),
            size: config.size,
            signature: config.signature,
        })))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().rseq_entry =
            self.0.map(|Area { address, size, signature }| RseqEntry {
                rseq_abi_pointer: address,
                rseq_abi_size: size,
                signature,
                rseq_cs_pointer: None,
            });
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let entry = core.thread_core.as_ref().and_then(|thread| thread.rseq_entry.as_ref());
        Ok(Self(entry.filter(|entry| entry.rseq_abi_pointer != 0).map(|entry| Area {
            address: entry.rseq_abi_pointer,
            size: entry.rseq_abi_size,
            signature: entry.signature,
        })))
    }

    fn apply(&self, batch: &mut Batch) {
        if let Some(Area { address, size, signature }) = self.0 {
            batch.call(libc::SYS_rseq, [address.into(), size.into(), 0.into(), signature.into()]);
        }
    }
}
