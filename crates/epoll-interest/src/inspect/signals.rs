//! Whose signals items on signalfds wait for.
//!
//! Such an item hangs on a queue of the process that added it, and not on one
//! of the signalfd: `signalfd_poll` (`fs/signalfd.c`) takes `current->sighand`.
//!
//! Truth from: `fs/eventpoll.c` (`struct eppoll_entry`),
//! `include/linux/sched/signal.h`.

use super::btf::{Btf, BtfError};
use super::memory::{Address, KernelMemory, ReadError};
use super::tasks::Tasks;

/// The signal handlers of a process, to which its signalfd items are bound. The
/// same for processes that share them (`CLONE_SIGHAND`). Good as long as the
/// process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalsKey(Address);

/// Offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signals {
    hook_queue: usize,
    handlers_queue: usize,
    tasks: Tasks,
    task_handlers: usize,
}

impl Signals {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        Ok(Self {
            hook_queue: btf.structure("eppoll_entry")?.offset("whead")?,
            handlers_queue: btf.structure("sighand_struct")?.offset("signalfd_wqh")?,
            tasks: Tasks::new(btf)?,
            task_handlers: btf.structure("task_struct")?.offset("sighand")?,
        })
    }

    /// Those of the process behind the `struct file` of a pidfd.
    pub(super) fn of(
        &self,
        memory: &mut KernelMemory,
        pidfd: Address,
    ) -> Result<SignalsKey, ReadError> {
        let task = self.tasks.of_file(memory, pidfd)?;
        memory.word(task + self.task_handlers as u64).map(SignalsKey)
    }

    /// Those that items wait for which hang on their files by `hooks`.
    pub(super) fn awaited(
        &self,
        memory: &mut KernelMemory,
        hooks: &[Address],
    ) -> Result<Vec<Option<SignalsKey>>, ReadError> {
        // Nothing is left there when the process is gone (`POLLFREE`).
        let handlers = |queue: Address| queue.checked_sub(self.handlers_queue as u64);
        let queues = memory.words_behind(hooks, self.hook_queue)?;
        Ok(queues.into_iter().map(|queue| handlers(queue).map(SignalsKey)).collect())
    }
}

impl std::fmt::Debug for SignalsKey {
    // A kernel address does not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalsKey(..)")
    }
}
