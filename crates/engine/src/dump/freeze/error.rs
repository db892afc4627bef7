//! Why a tree could not be stopped.

use std::time::Duration;

use dormouse_kernel::HostPid;
use dormouse_kernel::{proc, ptrace};

/// Why a tree could not be stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The root is not there.
    #[error("there is no process {0}")]
    NoSuchProcess(HostPid),
    /// The pid is that of a thread.
    #[error("{tid} is a thread of process {process}")]
    IsThread {
        /// What was asked for.
        tid: HostPid,
        /// What to ask for.
        process: HostPid,
    },
    /// Kernel threads have no user state.
    #[error("process {0} is a kernel thread")]
    KernelThread(HostPid),
    /// Nothing is left of the root but its exit status.
    #[error("process {0} has ended")]
    RootIsZombie(HostPid),
    /// Somebody else traces the task.
    #[error("task {tid} is being traced by process {tracer}")]
    Traced {
        /// The task.
        tid: HostPid,
        /// Who traces it.
        tracer: HostPid,
    },
    /// The task cannot be stopped before its child does something.
    #[error("task {0} waits in vfork(2) until its child has ended or runs another program")]
    Vfork(HostPid),
    /// The tree includes dormouse.
    #[error("dormouse itself is in the tree")]
    Suicide,
    /// New tasks turned up for too long.
    #[error("the tree could not be stopped within {0:?}")]
    Timeout(Duration),
    /// A task did not stop.
    #[error("task {tid} did not stop within {timeout:?}: it is in a call that nothing interrupts")]
    Immovable {
        /// The task.
        tid: HostPid,
        /// How long was waited for all of them.
        timeout: Duration,
    },
    /// A task did not stop, and a userfaultfd reports faults in its memory.
    #[error("task {0} waits within a system call until the handler of a userfaultfd has answered")]
    Unanswered(HostPid),
    /// There can be no thread to help.
    #[error("cannot start a thread: {0}")]
    Reaper(std::io::Error),
    /// Nobody wants the tree stopped any more.
    #[error("whoever asked for the dump is gone")]
    Abandoned,
    /// `/proc` could not be read.
    #[error(transparent)]
    Proc(#[from] proc::Error),
    /// ptrace refused.
    #[error(transparent)]
    Ptrace(#[from] ptrace::Error),
}
