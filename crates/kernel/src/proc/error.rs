//! How reading `/proc` fails.

use super::{Entry, ParseError};
use crate::{Errno, HostPid};
use thiserror::Error;

/// What was being done to an entry of `/proc/PID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `openat(2)`.
    Open,
    /// `read(2)`.
    Read,
    /// `getdents64(2)`.
    List,
    /// `readlinkat(2)`.
    ReadLink,
    /// `statx(2)` of what a link leads to.
    Stat,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::List => "list",
            Self::ReadLink => "follow",
            Self::Stat => "stat",
        })
    }
}

/// Why something about a task could not be had from `/proc`.
#[derive(Debug, Error)]
pub enum Error {
    /// The task has died and was reaped. Its number may belong to another
    /// task by now; the answer is never about that one.
    #[error("task {pid} is gone")]
    Gone {
        /// The task that was asked about.
        pid: HostPid,
    },
    /// The kernel refused.
    #[error("cannot {operation} {entry} of task {pid}")]
    Io {
        /// What was tried.
        operation: Operation,
        /// On which entry of its directory.
        entry: Entry,
        /// Of which task.
        pid: HostPid,
        /// Why not.
        source: Errno,
    },
    /// The kernel's answer is not as expected.
    #[error("{entry} of task {pid} does not read as expected")]
    Parse {
        /// Which entry of its directory.
        entry: Entry,
        /// Of which task.
        pid: HostPid,
        /// Where and how.
        source: ParseError,
    },
}

impl Error {
    /// The kernel's error number, if this is a refusal. [`Error::Gone`] is
    /// `ESRCH`.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::Gone { .. } => Some(Errno::SRCH),
            Self::Io { source, .. } => Some(*source),
            Self::Parse { .. } => None,
        }
    }
}
