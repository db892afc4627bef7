//! What the kernel will take back of operations on semaphores, of all tasks.
//!
//! - Kernel object: `task_struct.sysvsem`, `struct sem_undo_list`, `struct sem_undo`
//! - Truth from: `ipc/sem.c`
//! - Without `CAP_BPF` and `CAP_PERFMON`, or without type information: a dump is refused as long
//!   as there are semaphores on the machine

use std::collections::BTreeMap;

use dormouse_kernel::HostPid;
use dormouse_kernel::semaphore::{self, SetId};
use dormouse_resources::task::{Refusal, SemaphoreUndo};
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, ReadError};

use super::frozen::Frozen;
use super::traced::{Traced, Unreadable};
use crate::cause::Cause;

/// Who has which adjustments. Empty if there are no semaphores.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    owners: BTreeMap<HostPid, HostPid>,
    lists: BTreeMap<HostPid, SemaphoreUndo>,
}

/// Offsets in bytes.
struct Layout {
    traced: Traced,
    list: usize,
    undos: usize,
    next: usize,
    set: usize,
    adjustments: usize,
}

/// More sets than there can be (`SEMMNI`).
const SETS: usize = 1 << 24;

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (semaphores, own) = btf.structure("task_struct")?.member("sysvsem")?;
        let undo = btf.structure("sem_undo")?;
        let adjustments = undo.offset("semadj")?;
        // Up to 6.5, the last member points to what follows the structure.
        let is_pointer = adjustments + size_of::<Address>() == undo.size();
        Ok(Self {
            traced: Traced::new(btf)?,
            list: semaphores + own.offset("undo_list")?,
            undos: btf.structure("sem_undo_list")?.offset("list_proc")?,
            next: undo.offset("list_proc")?,
            set: undo.offset("semid")?,
            adjustments: if is_pointer { undo.size() } else { adjustments },
        })
    }
}

impl Undo {
    /// Reads it.
    pub(super) fn read(frozen: &Frozen) -> Result<Self, Cause> {
        // Without System V IPC there are none.
        if !semaphore::exist().unwrap_or(false) {
            return Ok(Self::default());
        }
        let undo = Self::try_read(frozen).map_err(|error| {
            error.tell("a dump has to know of semaphores");
            Cause::Unsupported(Refusal::HiddenUndo)
        })?;
        SemaphoreUndo::check_undo(undo.lists.values())?;
        Ok(undo)
    }

    fn try_read(frozen: &Frozen) -> Result<Self, Unreadable> {
        let (mut memory, layout) = KernelMemory::open(Layout::new)?;
        let (tids, tasks): (Vec<_>, Vec<_>) =
            layout.traced.newest(&mut memory, usize::MAX)?.into_iter().unzip();
        let lists = memory.words_behind(&tasks, layout.list)?;
        let lists: BTreeMap<HostPid, Address> = tids.into_iter().zip(lists).collect();
        let mut undo = Self::default();
        let mut first: BTreeMap<Address, HostPid> = BTreeMap::new();
        for task in frozen.processes.iter().flat_map(|process| &process.threads) {
            let tid = task.tid();
            let Some(&list) = lists.get(&tid).filter(|list| **list != 0) else {
                undo.owners.insert(tid, tid);
                continue;
            };
            let owner = *first.entry(list).or_insert(tid);
            undo.owners.insert(tid, owner);
            if owner == tid {
                undo.lists.insert(tid, layout.adjustments(&mut memory, list)?);
            }
        }
        Ok(undo)
    }

    /// The first task that has the same adjustments, if that is known.
    pub(super) fn owner(&self, task: HostPid) -> Option<HostPid> {
        self.owners.get(&task).copied()
    }

    /// The adjustments that a task has, and no task before it.
    pub(super) fn of(&self, task: HostPid) -> Option<&SemaphoreUndo> {
        self.lists.get(&task)
    }
}

impl Layout {
    /// What is behind a `struct sem_undo_list`.
    fn adjustments(
        &self,
        memory: &mut KernelMemory,
        list: Address,
    ) -> Result<SemaphoreUndo, ReadError> {
        let mut found = SemaphoreUndo::default();
        let head = list + self.undos as u64;
        let mut node = memory.word(head)?;
        // Whoever removes a set takes it out of the list, which is not to be followed for ever.
        for _ in 0..SETS {
            if node == head {
                break;
            }
            let undo = node - self.next as u64;
            let set = memory.word(undo + self.set as u64)? as u32;
            // A set that is gone is none.
            if let Some(id) = SetId::from_raw(set.cast_signed())
                && let Ok(set) = semaphore::look(id)
            {
                let len = set.values.len() * size_of::<i16>();
                let bytes = memory.bytes(undo + self.adjustments as u64, len)?;
                let (words, _) = bytes.as_chunks::<2>();
                found.note(id, &set, words.iter().map(|word| i16::from_ne_bytes(*word)));
            }
            node = memory.word(node)?;
        }
        Ok(found)
    }
}
