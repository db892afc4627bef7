//! Which files share a wait queue, and in which order items hang on those.
//!
//! A file that is polled names the queues on which it will be signalled, and
//! `epoll_ctl(EPOLL_CTL_ADD)` hangs the item on each. Most have one of their own;
//! what is open several times (a FIFO, a terminal, a message queue), pidfds of
//! one process and signalfds of one process have it together.
//!
//! Truth from: `ep_ptable_queue_proc` and `struct eppoll_entry`,
//! `fs/eventpoll.c`; `add_wait_queue`, which puts an entry at the front, and
//! `add_wait_queue_exclusive`, at the end, `kernel/sched/wait.c`.

use super::Inspection;
use super::btf::{Btf, BtfError};
use super::memory::{Address, KernelMemory, ReadError, u64_at};
use crate::event::Events;

/// An item by the index of the epoll and its own.
pub(crate) type Place = (u32, u32);

/// The wait queues that items on different files hang on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SharedQueues {
    /// Of each the items, first added first, those with
    /// [`Events::EXCLUSIVE`] and the others apart.
    pub(crate) queues: Vec<Vec<Place>>,
}

/// Offsets and sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queues {
    hook_size: usize,
    hook_next: usize,
    hook_queue: usize,
    hook_link: usize,
    queue_links: usize,
}

/// Items that are read in one go.
const AT_ONCE: usize = 1 << 12;
/// No file names more queues.
const MOST_HOOKS: usize = 64;
/// More entries of others than a queue has: a reading that goes on past this is
/// torn, and may be in another queue.
const MOST_OTHERS: usize = 1 << 20;

/// An item on a queue, by the link of the queue's list that is its.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hung {
    queue: Address,
    link: Address,
    item: Place,
}

impl Queues {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let hook = btf.structure("eppoll_entry")?;
        Ok(Self {
            hook_size: hook.size(),
            hook_next: hook.offset("next")?,
            hook_queue: hook.offset("whead")?,
            hook_link: hook.offset("wait")? + btf.structure("wait_queue_entry")?.offset("entry")?,
            queue_links: btf.structure("wait_queue_head")?.offset("head")?,
        })
    }

    /// Those that items of different files hang on; nothing if they changed
    /// meanwhile.
    pub(super) fn shared(
        &self,
        memory: &mut KernelMemory,
        found: &[&Inspection],
    ) -> Result<Option<SharedQueues>, ReadError> {
        let file = |(epoll, item): Place| found[epoll as usize].interest.items[item as usize].file;
        let exclusive = |&(epoll, item): &Place| {
            let item = &found[epoll as usize].interest.items[item as usize];
            item.events.contains(Events::EXCLUSIVE)
        };
        let Some(mut hung) = self.hung(memory, found)? else { return Ok(None) };
        hung.sort_unstable();
        let mut queues = Vec::new();
        for items in hung.chunk_by(|one, next| one.queue == next.queue) {
            if items.iter().all(|hung| file(hung.item) == file(items[0].item)) {
                continue;
            }
            let head = items[0].queue + self.queue_links as u64;
            let links = memory.links(head, items.len() + MOST_OTHERS)?;
            let item = |link| {
                let at = items.binary_search_by_key(&link, |hung| hung.link).ok()?;
                Some(items[at].item)
            };
            let order: Vec<Place> = links.into_iter().filter_map(item).collect();
            if order.len() != items.len() {
                return Ok(None);
            }
            let (last, mut first): (Vec<_>, Vec<_>) = order.into_iter().partition(exclusive);
            first.reverse();
            queues.extend([first, last].into_iter().filter(|items| items.len() > 1));
        }
        Ok(Some(SharedQueues { queues }))
    }

    /// Every item on every queue it hangs on.
    fn hung(
        &self,
        memory: &mut KernelMemory,
        found: &[&Inspection],
    ) -> Result<Option<Vec<Hung>>, ReadError> {
        let mut hung = Vec::new();
        let mut hooks: Vec<(Address, Place)> = Vec::new();
        for (epoll, inspection) in (0..).zip(found) {
            let of_epoll = inspection.hooks.iter().zip(0..);
            hooks.extend(of_epoll.map(|(&hook, item)| (hook, (epoll, item))));
        }
        // The other queues of those that hang on several, a generation at a time.
        for _ in 0..MOST_HOOKS {
            hooks.retain(|&(hook, _)| hook != 0);
            let mut next = Vec::new();
            for some in hooks.chunks(AT_ONCE) {
                let addresses: Vec<_> = some.iter().map(|&(hook, _)| hook).collect();
                let bytes = memory.read(&addresses, self.hook_size)?;
                for (&(hook, item), bytes) in some.iter().zip(bytes.chunks_exact(self.hook_size)) {
                    let queue = u64_at(bytes, self.hook_queue);
                    // Nothing is left there when whose signals it awaited is gone (`POLLFREE`).
                    if queue != 0 {
                        hung.push(Hung { queue, link: hook + self.hook_link as u64, item });
                    }
                    next.push((u64_at(bytes, self.hook_next), item));
                }
            }
            hooks = next;
            if hooks.is_empty() {
                return Ok(Some(hung));
            }
        }
        Ok(None)
    }
}
