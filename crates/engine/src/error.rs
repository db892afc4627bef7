//! What can go wrong, as a caller sees it.

use std::fmt;

use dormouse_kernel::{FdNum, HostPid};
use tracing::{Span, info_span};

/// Whose fault it is, and so what can be done. Exit code and RPC errno come
/// from this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The state of the program cannot be saved or restored by this version.
    Unsupported,
    /// The kernel refused for want of privileges.
    Denied,
    /// A process or file that was there is gone or has changed.
    Vanished,
    /// An image is damaged, incomplete or contradicts another.
    CorruptImage,
    /// What the user asked for does not fit the state of the system: a pid
    /// that is taken, a directory that is missing.
    Conflict,
    /// The kernel failed a call that should have worked.
    Kernel,
    /// An invariant of dormouse itself is broken.
    Bug,
}

/// The steps of the work, in order; DESIGN calls a dump's and a restore's by
/// the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Dump: every task is stopped.
    Freeze,
    /// Dump: tasks, fd tables and memory maps are listed; every open file
    /// description gets its id.
    Enumerate,
    /// Dump: each room reads its object.
    Collect,
    /// Dump: memory goes to the pages files.
    Pages,
    /// Dump: images are written.
    Encode,
    /// Dump: the last image is renamed into place.
    Commit,
    /// Dump: the tree runs on, stays stopped, or is killed.
    Thaw,
    /// Restore: images are read and judged.
    Decode,
    /// Restore: what will be created where.
    Plan,
    /// Restore: the process tree with its ids and memory maps.
    Spawn,
    /// Restore: open file descriptions.
    Create,
    /// Restore: fd tables.
    Install,
    /// Restore: contents of files.
    Fill,
    /// Restore: contents of memory.
    Memory,
    /// Restore: threads and the state of each task.
    Threads,
    /// Restore: the tree runs.
    Release,
}

macro_rules! names {
    ($($phase:ident = $name:literal),* $(,)?) => {
        impl Phase {
            /// Whatever the log is told within bears the phase's name.
            pub(crate) fn span(self) -> Span {
                match self { $(Self::$phase => info_span!($name),)* }
            }
        }

        impl fmt::Display for Phase {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$phase => $name,)* })
            }
        }
    };
}

names! {
    Freeze = "freeze",
    Enumerate = "enumerate",
    Collect = "collect",
    Pages = "pages",
    Encode = "encode",
    Commit = "commit",
    Thaw = "thaw",
    Decode = "decode",
    Plan = "plan",
    Spawn = "spawn",
    Create = "create",
    Install = "install",
    Fill = "fill",
    Memory = "memory",
    Threads = "threads",
    Release = "release",
}

/// An error of a dump or a restore: what kind, in which phase, of which task
/// and descriptor, from what source, and what the user can do.
#[derive(Debug)]
pub struct Error {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// The phase it happened in.
    pub phase: Phase,
    /// The task concerned, if it is about one.
    pub task: Option<HostPid>,
    /// The descriptor concerned, if it is about one.
    pub fd: Option<FdNum>,
    /// What the user can do, where there is something.
    pub hint: Option<&'static str>,
    /// What went wrong.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.phase)?;
        if let Some(pid) = self.task {
            write!(f, "pid {pid}: ")?;
        }
        if let Some(fd) = self.fd {
            write!(f, "fd {fd}: ")?;
        }
        self.source.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}
