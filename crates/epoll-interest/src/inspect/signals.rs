//! Whose signals items on signalfds wait for.
//!
//! Such an item hangs on a queue of the process that added it, and not on one
//! of the signalfd: `signalfd_poll` (`fs/signalfd.c`) takes `current->sighand`.
//!
//! Truth from: `fs/eventpoll.c` (`struct eppoll_entry`),
//! `include/linux/{pid,sched}.h`, `include/linux/sched/signal.h`,
//! `pidfd_pid` (`fs/pidfs.c`; `kernel/fork.c` before 6.9).

use super::btf::{Btf, BtfError};
use super::memory::{Address, KernelMemory, ReadError};

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
    file_private: usize,
    file_inode: usize,
    inode_private: usize,
    pid_tasks: usize,
    task_links: usize,
    task_handlers: usize,
}

impl Signals {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (file, task) = (btf.structure("file")?, btf.structure("task_struct")?);
        Ok(Self {
            hook_queue: btf.structure("eppoll_entry")?.offset("whead")?,
            handlers_queue: btf.structure("sighand_struct")?.offset("signalfd_wqh")?,
            file_private: file.offset("private_data")?,
            file_inode: file.offset("f_inode")?,
            inode_private: btf.structure("inode")?.offset("i_private")?,
            pid_tasks: btf.structure("pid")?.offset("tasks")?,
            task_links: task.offset("pid_links")?,
            task_handlers: task.offset("sighand")?,
        })
    }

    /// Those of the process behind the `struct file` of a pidfd.
    pub(super) fn of(
        &self,
        memory: &mut KernelMemory,
        pidfd: Address,
    ) -> Result<SignalsKey, ReadError> {
        let mut pid = memory.word(pidfd + self.file_private as u64)?;
        if pid == 0 {
            // Since 6.9 it is the inode that says whose pidfd it is.
            let inode = memory.word(pidfd + self.file_inode as u64)?;
            pid = memory.word(inode + self.inode_private as u64)?;
        }
        // The first of `enum pid_type`, in both arrays.
        let link = memory.word(pid + self.pid_tasks as u64)?;
        let task = link.checked_sub(self.task_links as u64).ok_or(ReadError::Fault)?;
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
