//! What can go wrong with a puppet.

use dormouse_kernel::rlimit::{self, Resource};
use dormouse_kernel::{Addr, AddrRange, Errno, HostPid, ptrace, remote_memory};
use syscalls::Sysno;

/// Why a task did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of its system calls failed.
    #[error("{call}({args}) in task {task}")]
    Call {
        /// The task.
        task: HostPid,
        /// The call.
        call: Syscall,
        /// Its arguments.
        args: Args,
        /// Why.
        source: Errno,
    },
    /// There is no place for the code in the task.
    #[error(
        "task {task} has neither a vDSO nor a program with {needed} bytes to spare, where dormouse \
         could run code"
    )]
    NoRoom {
        /// The task.
        task: HostPid,
        /// How much is needed.
        needed: usize,
    },
    /// A limit of the process leaves no room for the memory that batches take.
    #[error("task {task} has reached its limit {resource:?}, and dormouse may not raise it")]
    Limit {
        /// The task.
        task: HostPid,
        /// The limit.
        resource: Resource,
    },
    /// A limit could not be put back.
    #[error(transparent)]
    PutBack(#[from] rlimit::Error),
    /// There is no signal left that it could report by.
    #[error("every signal by which task {0} could report waits for it")]
    NoSignal(HostPid),
    /// The batch is larger than the memory for it.
    #[error("{needed} bytes of calls for task {task}, which has room for {room}")]
    TooLarge {
        /// The task.
        task: HostPid,
        /// What it takes, in bytes.
        needed: usize,
        /// What there is, in bytes.
        room: u64,
    },
    /// The task has died.
    #[error("task {0} has died")]
    Died(HostPid),
    /// The task stopped, and not where its code ends.
    #[error("task {task} stopped by {stop:?} at {at:?}")]
    Astray {
        /// The task.
        task: HostPid,
        /// How.
        stop: ptrace::Stop,
        /// Where.
        at: Addr,
    },
    /// The code's place is in use.
    #[error("{0:?} is not free in the new process")]
    Taken(AddrRange),
    /// Its memory could not be reached.
    #[error(transparent)]
    Memory(#[from] remote_memory::Error),
    /// It could not be looked into.
    #[error(transparent)]
    Proc(#[from] dormouse_kernel::proc::Error),
    /// ptrace refused.
    #[error(transparent)]
    Ptrace(ptrace::Error),
}

impl From<ptrace::Error> for Error {
    fn from(error: ptrace::Error) -> Self {
        match error {
            ptrace::Error::Died { tid } => Self::Died(tid),
            error => Self::Ptrace(error),
        }
    }
}

/// The number of a system call; shows its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall(pub i64);

/// Arguments as they were when the call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Args(pub [u64; 6]);

impl std::fmt::Display for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Trailing zeros are most probably no arguments at all.
        let used = self.0.iter().rposition(|&arg| arg != 0).map_or(0, |last| last + 1);
        for (index, arg) in self.0[..used].iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match arg {
                0..=9999 => write!(f, "{arg}")?,
                _ if *arg > u64::MAX - 4096 => write!(f, "{}", arg.cast_signed())?,
                _ => write!(f, "{arg:#x}")?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Syscall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match usize::try_from(self.0).ok().and_then(Sysno::new) {
            Some(known) => f.write_str(known.name()),
            None => write!(f, "system call {}", self.0),
        }
    }
}
