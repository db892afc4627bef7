//! On which nodes memory of a thread is to be.
//!
//! - Kernel object: `task_struct.mempolicy`
//! - Truth from: `get_mempolicy(2)` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.memory_policy`, an extension
//! - Not preserved: where pages are. A mapping with a policy of its own (`mbind(2)`) is refused.
//!   `/proc/PID/numa_maps` shows them too, but looks at every page for that
//! - Kernel needed: `CONFIG_NUMA`; without, there are none
//! - Scenarios: `threads::memory_policy`, `refusals::memory_policy`

use dormouse_image::proto::core::{CoreEntry, MemoryPolicyEntry};
use dormouse_kernel::{Addr, Errno};
use dormouse_puppet::{Batch, OutSlot, Replies, Slot};

use super::refusal::Refusal;
use super::{Property, TaskProbe};
use crate::corrupt::corrupt_core;
use crate::{Error, Result};

/// A mode with its flags, and nodes, 64 a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy(Option<(u32, Vec<u64>)>);

/// As many nodes as a kernel can be built for.
const NODES: usize = 1024;
const WORDS: usize = NODES / 64;
/// The kernel takes one less than it is told.
const ALL: u64 = NODES as u64 + 1;
const DEFAULT: u32 = 0;

/// `MPOL_F_ADDR`.
const OF_ADDRESS: u32 = 2;

/// What a process is asked about one of its mappings.
#[derive(Debug)]
pub struct MappingAsked {
    at: Addr,
    asked: Slot,
    mode: OutSlot,
}

impl MappingAsked {
    /// Asks for the policy of the mapping that begins at an address.
    pub fn ask(batch: &mut Batch, at: Addr) -> Self {
        let mode = batch.out(size_of::<u64>());
        let args = [(&mode).into(), 0.into(), 0.into(), at.into(), OF_ADDRESS.into()];
        Self { at, asked: batch.may_fail(libc::SYS_get_mempolicy, args), mode }
    }

    /// Refuses one that has a policy of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] names its address.
    pub fn check(&self, replies: &Replies) -> Result<()> {
        let Self { at, asked, mode } = self;
        match replies.result(asked) {
            Err(Errno::NOSYS) => return Ok(()),
            Err(source) => {
                let subject = at.to_string().into();
                return Err(Error::Kernel { call: "get_mempolicy", subject, source });
            }
            Ok(_) => {}
        }
        // No policy that a mapping can be given has this mode (`mpol_new` in `mm/mempolicy.c`).
        if u64::from_ne_bytes(*replies.array(mode)) as u32 == DEFAULT {
            return Ok(());
        }
        Err(Refusal::MappingPolicy.error(at.to_string()))
    }
}

impl Property for MemoryPolicy {
    const NAME: &'static str = "memory policy";
    type Asked = (Slot, OutSlot, OutSlot);

    fn ask(batch: &mut Batch) -> Self::Asked {
        let mode = batch.out(size_of::<u64>());
        let nodes = batch.out(NODES / 8);
        let args = [(&mode).into(), (&nodes).into(), (NODES as u64).into(), 0.into(), 0.into()];
        (batch.may_fail(libc::SYS_get_mempolicy, args), mode, nodes)
    }

    fn collect(
        _: &TaskProbe<'_>,
        replies: &Replies,
        (asked, mode, nodes): Self::Asked,
    ) -> Result<Self> {
        let mode = u64::from_ne_bytes(*replies.array(&mode)) as u32;
        if replies.result(&asked).is_err() || mode == DEFAULT {
            return Ok(Self(None));
        }
        let (words, _) = replies.bytes(&nodes).as_chunks::<8>();
        let mut nodes: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        while nodes.last() == Some(&0) {
            nodes.pop();
        }
        Ok(Self(Some((mode, nodes))))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.thread_core.get_or_insert_default().memory_policy = self
            .0
            .as_ref()
            .map(|(mode, nodes)| MemoryPolicyEntry { mode: *mode, nodes: nodes.clone() });
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let entry = core.thread_core.as_ref().and_then(|thread| thread.memory_policy.as_ref());
        match entry {
            None => Ok(Self(None)),
            Some(entry) if entry.nodes.len() > WORDS => {
                Err(corrupt_core(Self::NAME, "more nodes than there can be"))
            }
            Some(entry) => Ok(Self(Some((entry.mode, entry.nodes.clone())))),
        }
    }

    fn apply(&self, batch: &mut Batch) {
        let Some((mode, nodes)) = &self.0 else { return };
        let mut words = [0_u64; WORDS];
        words[..nodes.len()].copy_from_slice(nodes);
        let mask = batch.data(words.map(u64::to_ne_bytes).as_flattened());
        batch.call(libc::SYS_set_mempolicy, [(*mode).into(), mask.into(), ALL.into()]);
    }
}
