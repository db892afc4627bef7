//! The tasks that this thread traces, in the kernel's own memory.
//!
//! - Kernel object: `task_struct.ptraced`
//! - Truth from: `include/linux/sched.h`, `__ptrace_link` in
//!   `kernel/ptrace.c`: who was traced last comes first

use dormouse_kernel::HostPid;
use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, Numbers, OpenError, ReadError,
};
use tracing::warn;

/// Why they cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The system does not let them be.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It does not say where something is.
    #[error("the kernel does not tell where {0} is")]
    Hidden(&'static str),
    /// Memory is not as expected.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Unreadable {
    /// Says what comes of it.
    pub(super) fn tell(&self, consequence: &str) {
        let cause = std::error::Error::source(self).map(ToString::to_string);
        warn!(error = %self, cause, "{consequence}");
    }
}

/// What comes of it where interrupted calls are concerned.
pub(super) const LOST: &str = "time-outs of interrupted calls begin anew";

/// Offsets in bytes.
pub(super) struct Traced {
    ptraced: usize,
    entry: usize,
    numbers: Numbers,
}

impl Traced {
    /// Looks them up.
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let task = btf.structure("task_struct")?;
        Ok(Self {
            ptraced: task.offset("ptraced")?,
            entry: task.offset("ptrace_entry")?,
            numbers: Numbers::new(btf)?,
        })
    }

    /// The tasks with their numbers, those first that were traced last, up to
    /// so many. Nobody else changes the list.
    pub(super) fn newest(
        &self,
        memory: &mut KernelMemory,
        most: usize,
    ) -> Result<Vec<(HostPid, Address)>, ReadError> {
        let own = memory.current_task()?;
        let head = own + self.ptraced as u64;
        let links = memory.links(head, most)?;
        let tasks: Vec<_> = links.into_iter().map(|link| link - self.entry as u64).collect();
        let numbers = numbers(&self.numbers, memory, &tasks)?;
        Ok(numbers.into_iter().zip(tasks).filter_map(|(pid, task)| Some((pid?, task))).collect())
    }
}

/// The numbers of tasks, as this thread's own pid namespace has them.
pub(super) fn numbers(
    numbers: &Numbers,
    memory: &mut KernelMemory,
    tasks: &[Address],
) -> Result<Vec<Option<HostPid>>, ReadError> {
    let pids = numbers.pids(memory, tasks)?;
    Ok(numbers.of(memory, &pids)?.into_iter().map(HostPid::from_raw).collect())
}

/// The word at an offset, or zero beyond the end.
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}
