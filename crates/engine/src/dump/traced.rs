//! The tasks that this thread traces, in the kernel's own memory.
//!
//! - Kernel object: `task_struct.ptraced`
//! - Truth from: `include/linux/sched.h`, `__ptrace_link` in
//!   `kernel/ptrace.c`: who was traced last comes first

use dormouse_kernel::HostPid;
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, OpenError, ReadError};
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
    pid: usize,
    pid_level: usize,
    pid_numbers: usize,
    number_size: usize,
    number: usize,
}

impl Traced {
    /// Looks them up.
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let task = btf.structure("task_struct")?;
        let pid = btf.structure("pid")?;
        let number = btf.structure("upid")?;
        Ok(Self {
            ptraced: task.offset("ptraced")?,
            entry: task.offset("ptrace_entry")?,
            pid: task.offset("thread_pid")?,
            pid_level: pid.offset("level")?,
            pid_numbers: pid.offset("numbers")?,
            number_size: number.size(),
            number: number.offset("nr")?,
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
        // Numbers are those of this thread's own pid namespace.
        let own_pid = memory.word(own + self.pid as u64)?;
        let level = memory.word(own_pid + self.pid_level as u64)? as u32 as usize;
        let number = self.pid_numbers + level * self.number_size + self.number;
        let head = own + self.ptraced as u64;
        let mut tasks = Vec::new();
        let mut node = memory.word(head)?;
        while node != head && tasks.len() < most {
            tasks.push(node - self.entry as u64);
            node = memory.word(node)?;
        }
        let pids = memory.words_behind(&tasks, self.pid)?;
        let numbers = memory.words_behind(&pids, number)?;
        let numbers = numbers.into_iter().map(|word| (word as u32).cast_signed());
        let named =
            numbers.zip(tasks).filter_map(|(pid, task)| Some((HostPid::from_raw(pid)?, task)));
        Ok(named.collect())
    }
}

/// The word at an offset, or zero beyond the end.
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}
