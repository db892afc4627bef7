//! Tasks that wait to send, in the order in which they would be let send.
//!
//! Who waits until a unix socket of datagrams takes more waits in that socket's queue, which no descriptor of its
//! own leads to. So it is found by the place on the task's stack that hangs in it.
//!
//! - Kernel object: `struct wait_queue_entry` of a sleeping task, and the list it is in
//! - Truth from: `unix_wait_for_peer` in `net/unix/af_unix.c`, `prepare_to_wait_exclusive` in
//!   `kernel/sched/wait.c`: who waits to be woken alone is put at the end, others at the front

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use dormouse_kernel::HostPid;
use dormouse_kernel::pidfd::PidFd;
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, ReadError, Tasks};

use super::stacks::{KERNEL, KERNEL_TEXT, Stacks};
use super::traced::word;

/// More tasks than there can be.
const MOST: usize = 1 << 22;

/// `WQ_FLAG_EXCLUSIVE`.
const EXCLUSIVE: u64 = 1;

/// What finds them. Offsets in bytes.
pub(super) struct Senders {
    tasks: Tasks,
    stacks: Stacks,
    flags: usize,
    task: usize,
    function: usize,
    entry: usize,
    size: usize,
}

/// Where a task hangs in a list.
#[derive(Clone, Copy)]
struct Place {
    tid: HostPid,
    at: Address,
    exclusive: bool,
}

impl Senders {
    /// Looks them up.
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let entry = btf.structure("wait_queue_entry")?;
        Ok(Self {
            tasks: Tasks::new(btf)?,
            stacks: Stacks::new(btf)?,
            flags: entry.offset("flags")?,
            task: entry.offset("private")?,
            function: entry.offset("func")?,
            entry: entry.offset("entry")?,
            size: entry.size(),
        })
    }

    /// Those of some tasks that wait together: of each queue those first that came first.
    pub(super) fn queues(&self, memory: &mut KernelMemory, tids: &[HostPid]) -> Vec<Vec<HostPid>> {
        // Whoever goes on meanwhile has no place.
        let places = tids.iter().filter_map(|&tid| self.place(memory, tid).ok().flatten());
        let places: BTreeMap<_, _> = places.map(|place| (place.at, place)).collect();
        let (mut seen, mut queues) = (BTreeSet::new(), Vec::new());
        for place in places.values() {
            if seen.contains(&place.at) {
                continue;
            }
            let Ok(list) = self.list(memory, place.at) else { continue };
            let found: Vec<_> = list.iter().filter_map(|at| places.get(at)).collect();
            seen.extend(found.iter().map(|place| place.at));
            let mut queue: Vec<_> = found.iter().map(|place| place.tid).collect();
            if !place.exclusive {
                queue.reverse();
            }
            queues.push(queue);
        }
        queues
    }

    /// Where a task waits, if that is in one list.
    fn place(&self, memory: &mut KernelMemory, tid: HostPid) -> Result<Option<Place>, ReadError> {
        let pidfd = PidFd::open(tid).or_else(|_| PidFd::open_thread(tid));
        let Ok(pidfd) = pidfd else { return Ok(None) };
        let task = self.tasks.of(memory, pidfd.as_fd())?;
        let (bottom, stack) = self.stacks.live(memory, task)?;
        let starts = (0..stack.len().saturating_sub(self.size - 1)).step_by(8);
        let like_one = starts.filter(|&start| {
            let entry = &stack[start..];
            word(entry, self.task) == task && word(entry, self.function) >= KERNEL_TEXT
        });
        let mut found = like_one.filter_map(|start| {
            let entry = &stack[start..];
            let at = bottom + (start + self.entry) as u64;
            let [next, previous] = [0, 8].map(|half| word(entry, self.entry + half));
            // Of calls before this one there are others, in no list any more.
            let is_linked = next >= KERNEL
                && previous >= KERNEL
                && next != at
                && memory.words(&[next + 8, previous]).is_ok_and(|back| back == [at, at]);
            let exclusive = word(entry, self.flags) & EXCLUSIVE != 0;
            is_linked.then_some(Place { tid, at, exclusive })
        });
        // More than one is none: nobody could tell which.
        Ok(found.next().filter(|_| found.next().is_none()))
    }

    /// The list that an entry is in, from its head on.
    fn list(&self, memory: &mut KernelMemory, at: Address) -> Result<Vec<Address>, ReadError> {
        let round = memory.links(at, MOST)?;
        let function = |link: &Address| link - self.entry as u64 + self.function as u64;
        let functions = memory.words(&round.iter().map(function).collect::<Vec<_>>())?;
        // The head is the only one that has no function to be woken by.
        let mut heads = round.iter().zip(functions).filter(|(_, function)| *function < KERNEL_TEXT);
        match (heads.next(), heads.next()) {
            (Some((&head, _)), None) => memory.links(head, MOST),
            _ => Err(ReadError::Fault),
        }
    }
}
