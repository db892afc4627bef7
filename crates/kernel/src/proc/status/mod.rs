//! `/proc/PID/status`.

mod fields;

use super::scan::{ParseError, Scan};
use super::stat::TaskState;
use crate::signal::SigSet;
use crate::{HostPid, NsPid};
use fields::Fields;
use rustix::thread::CapabilitySet;
use std::ffi::OsString;

/// Four of a kind: user or group ids of a task, as the reader's user
/// namespace sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdSet {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved.
    pub saved: u32,
    /// For the file system.
    pub fs: u32,
}

/// The five capability sets of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `CapInh`.
    pub inheritable: CapabilitySet,
    /// `CapPrm`.
    pub permitted: CapabilitySet,
    /// `CapEff`.
    pub effective: CapabilitySet,
    /// `CapBnd`.
    pub bounding: CapabilitySet,
    /// `CapAmb`.
    pub ambient: CapabilitySet,
}

/// `Seccomp:` of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompMode {
    /// None.
    Disabled,
    /// Only read, write, exit and sigreturn.
    Strict,
    /// Filters, so many (0 from kernels before 5.9, which do not tell).
    Filter {
        /// How many.
        filters: u32,
    },
}

/// Memory figures of a process, in KiB. Kernel threads and zombies have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemorySize {
    /// `VmSize`: mapped.
    pub mapped: u64,
    /// `VmLck`: locked in memory.
    pub locked: u64,
    /// `VmRSS`: in memory. Not exact, `smaps` is.
    pub resident: u64,
    /// `VmSwap`: swapped out. Not exact, `smaps` is.
    pub swapped: u64,
    /// `VmPTE`: page tables.
    pub page_tables: u64,
    /// `HugetlbPages`.
    pub hugetlb: u64,
}

/// What `/proc/PID/status` says (see `proc_pid_status` in `fs/proc/array.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The name, at most 15 bytes.
    pub name: OsString,
    /// `None` for a zombie.
    pub umask: Option<u32>,
    /// Running, sleeping, ...
    pub state: TaskState,
    /// The process.
    pub tgid: HostPid,
    /// The thread.
    pub pid: HostPid,
    /// The parent; `None` if that is outside of the reader's pid namespace.
    pub ppid: Option<HostPid>,
    /// The tracer, if any (and in the reader's pid namespace).
    pub tracer: Option<HostPid>,
    /// User ids.
    pub uid: IdSet,
    /// Group ids.
    pub gid: IdSet,
    /// How many descriptors the fd table has room for.
    pub fd_slots: u32,
    /// Supplementary groups, ascending.
    pub groups: Vec<u32>,
    /// `tgid` in each pid namespace from the reader's inwards; the last one
    /// is the task's own view. Empty if the task was just being reaped.
    pub ns_tgid: Vec<NsPid>,
    /// The same for `pid`.
    pub ns_pid: Vec<NsPid>,
    /// The same for the process group; `None` where it is not visible.
    pub ns_pgid: Vec<Option<NsPid>>,
    /// The same for the session.
    pub ns_sid: Vec<Option<NsPid>>,
    /// A kernel thread.
    pub kernel_thread: bool,
    /// `None` if it has no memory (any more).
    pub memory: Option<MemorySize>,
    /// A core dump is being written.
    pub core_dumping: bool,
    /// `PR_SET_THP_DISABLE` is not set. `None` as for `memory`.
    pub thp_enabled: Option<bool>,
    /// Threads of the process; 0 for one that is dead.
    pub threads: u32,
    /// Signals queued for the user, and how many may be.
    pub queued_signals: (u64, u64),
    /// Pending for the thread.
    pub pending: SigSet,
    /// Pending for the process.
    pub shared_pending: SigSet,
    /// Blocked in the thread.
    pub blocked: SigSet,
    /// Ignored by the process.
    pub ignored: SigSet,
    /// Handled by the process.
    pub caught: SigSet,
    /// Capabilities.
    pub caps: Capabilities,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Seccomp.
    pub seccomp: SeccompMode,
}

impl Status {
    /// The thread's number in its own pid namespace.
    #[must_use]
    pub fn innermost_pid(&self) -> Option<NsPid> {
        self.ns_pid.last().copied()
    }

    /// The process's number in its own pid namespace.
    #[must_use]
    pub fn innermost_tgid(&self) -> Option<NsPid> {
        self.ns_tgid.last().copied()
    }

    /// Reads the whole file.
    ///
    /// # Errors
    ///
    /// A field is missing or malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut fields = Fields::default();
        let mut scan = Scan::new(bytes);
        while !scan.is_empty() {
            let label = scan.until(b':');
            scan.blanks();
            fields.line(label, &mut scan)?;
        }
        fields.finish(&scan)
    }
}

#[cfg(test)]
mod tests;
