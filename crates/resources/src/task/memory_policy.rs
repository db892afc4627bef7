//! On which nodes memory of a thread is to be.
//!
//! - Kernel object: `task_struct.mempolicy`
//! - Truth from: `get_mempolicy(2)` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.memory_policy`, an extension
//! - Not preserved: where pages are. A mapping with another policy (`mbind(2)`), which
//!   `/proc/PID/numa_maps` shows, is refused
//! - Kernel needed: `CONFIG_NUMA`; without, there are none
//! - Scenarios: `threads::memory_policy`, `refusals::memory_policy`

use dormouse_image::proto::core::{CoreEntry, MemoryPolicyEntry};
use dormouse_kernel::Errno;
use dormouse_kernel::proc::{self, Entry, ProcDir};
use dormouse_puppet::{Batch, OutSlot, Replies, Slot};

use super::refusal::Refusal;
use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// A mode with its flags, and nodes, 64 a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPolicy(Option<(u32, Vec<u64>)>);

/// As many nodes as a kernel can be built for.
const NODES: usize = 1024;
const WORDS: usize = NODES / 64;
/// The kernel takes one less than it is told.
const ALL: u64 = NODES as u64 + 1;
const DEFAULT: u32 = 0;

impl MemoryPolicy {
    /// Whether no mapping of a process has another policy than its memory as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] names the first that has.
    pub fn check_mappings(process: &ProcDir) -> Result<()> {
        let text = match process.read(Entry::Named("numa_maps")) {
            Err(proc::Error::Io { source: Errno::NOENT, .. }) => return Ok(()),
            text => text?,
        };
        let Some(address) = other_policy(&text) else { return Ok(()) };
        Err(Refusal::MappingPolicy.error(String::from_utf8_lossy(address).into_owned()))
    }
}

/// The address of a mapping whose policy is not that of the stack: who has none of its own is shown
/// with the thread's.
fn other_policy(numa_maps: &[u8]) -> Option<&[u8]> {
    let lines = || {
        let lines = numa_maps.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| line.splitn(3, |byte| *byte == b' '))
            .filter_map(|mut fields| Some((fields.next()?, fields.next()?, fields.next())))
    };
    let is_stack = |rest: Option<&[u8]>| rest.is_some_and(|rest| rest.starts_with(b"stack"));
    let stack = lines().find(|(.., rest)| is_stack(*rest)).or_else(|| lines().next_back());
    let (_, usual, _) = stack?;
    lines().find(|(_, policy, _)| *policy != usual).map(|(address, ..)| address)
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

#[cfg(test)]
mod tests {
    use super::other_policy;

    #[test]
    fn one_mapping_stands_out() {
        let alike = b"7f00 prefer:0 file=/a b anon=1\n7f10 prefer:0\n7ffe prefer:0 stack anon=3\n";
        assert_eq!(other_policy(alike), None);
        let other = b"7f00 default file=/a\n7f10 bind=static:0 anon=1\n7ffe default stack anon=3\n";
        assert_eq!(other_policy(other), Some(&b"7f10"[..]));
        assert_eq!(other_policy(b""), None);
    }
}
