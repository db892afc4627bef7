//! What can go wrong in a room.

use std::ffi::OsString;
use std::path::PathBuf;

use dormouse_image::ImageName;
use rustix::io::Errno;

/// The result of a room's verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a room. The engine adds the phase, the task and the
/// descriptor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// State that cannot be carried over.
    #[error("{object} ({detail:?}) is not supported: {reason}")]
    Unsupported {
        /// The kernel object, as users call it.
        object: &'static str,
        /// What identifies this one: a path, a link, an option.
        detail: OsString,
        /// Why not.
        reason: &'static str,
        /// What the user can do.
        hint: &'static str,
    },
    /// A system call that failed.
    #[error("{call} of {subject:?}")]
    Kernel {
        /// The call.
        call: &'static str,
        /// What it was called on: a path or the object's name.
        subject: PathBuf,
        /// Why it failed.
        source: Errno,
    },
    /// A file that has no name, or has lost one, could not be given one for the moment in which it
    /// is opened.
    #[error("{call} of {path:?}, beside which a file was that has lost its name")]
    Nameless {
        /// The call.
        call: &'static str,
        /// What it was called on.
        path: PathBuf,
        /// Why it failed.
        source: Errno,
    },
    /// A file on which the checkpoint relies is not what it was.
    #[error("{path:?} {change}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// How it differs.
        change: Change,
    },
    /// An image that is damaged or contradicts another.
    #[error("{image}: {object} {id}: {reason}")]
    Corrupt {
        /// The image.
        image: ImageName,
        /// The object the entry describes.
        object: &'static str,
        /// Its number in the image.
        id: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A task's core image is damaged; the engine adds which.
    #[error("core image: {object}: {reason}")]
    CorruptCore {
        /// The property of the task.
        object: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Reading `/proc` failed.
    #[error(transparent)]
    Proc(#[from] dormouse_kernel::proc::Error),
    /// Reading or writing an image failed.
    #[error(transparent)]
    Image(#[from] dormouse_image::ImageError),
    /// A descriptor could not be fetched from a task.
    #[error(transparent)]
    Fetch(#[from] dormouse_kernel::pidfd::Error),
    /// A stopped task could not be looked into.
    #[error(transparent)]
    Ptrace(#[from] dormouse_kernel::ptrace::Error),
    /// Sockets could not be listed.
    #[error(transparent)]
    SockDiag(#[from] dormouse_kernel::sock_diag::Error),
    /// The network could not be locked or unlocked.
    #[error(transparent)]
    NetworkLock(#[from] dormouse_kernel::netfilter::LockError),
    /// A process that was to do something for another could not be made.
    #[error(transparent)]
    StandIn(#[from] dormouse_kernel::clone::Error),
    /// Two open files could not be compared.
    #[error(transparent)]
    Compare(#[from] dormouse_kernel::kcmp::Error),
    /// An open file is not where the kernel should have it.
    #[error("an open file cannot be found in the kernel's memory any more")]
    KernelFiles(#[source] epoll_interest::kernel_memory::ReadError),
    /// Internet sockets cannot be looked into on this system.
    #[error("what no call tells of an internet socket cannot be read here")]
    InetReader(#[source] crate::file::InsideError),
    /// An item of an epoll cannot be carried over.
    #[error("item {number} {problem}")]
    EpollItem {
        /// The number in its key.
        number: u32,
        /// Why not.
        problem: crate::file::ItemProblem,
    },
    /// An epoll could not be read.
    #[error(transparent)]
    ReadEpoll(#[from] epoll_interest::InspectError),
    /// Epolls could not be filled.
    #[error(transparent)]
    FillEpoll(#[from] epoll_interest::InsertError),
    /// The contents of a shared memory object could not be stored or loaded.
    #[error(transparent)]
    Memory(#[from] crate::memory::Error),
    /// A system call inside a task failed.
    #[error(transparent)]
    Puppet(#[from] dormouse_puppet::Error),
}

/// How a file differs from what it was when the checkpoint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Change {
    /// There is none.
    #[error("is missing")]
    Missing,
    /// Another length.
    #[error("has {is} bytes, and had {was} when the checkpoint was made")]
    Size {
        /// At the dump, in bytes.
        was: u64,
        /// Now, in bytes.
        is: u64,
    },
    /// A message queue of another size.
    #[error("takes other messages than when the checkpoint was made")]
    Room,
    /// Another program or library, or another version.
    #[error("has another build ID than when the checkpoint was made")]
    Build,
    /// What it is about has ended, and another has its number.
    #[error("is about another process than when the checkpoint was made")]
    Task,
    /// Another type or other permissions.
    #[error("has mode {is:o}, and had {was:o} when the checkpoint was made")]
    Mode {
        /// `st_mode` at the dump.
        was: u32,
        /// `st_mode` now.
        is: u32,
    },
}

impl Error {
    /// Whether a call was to wait, and was told not to.
    #[must_use]
    pub fn is_would_block(&self) -> bool {
        matches!(self, Self::Kernel { source: Errno::AGAIN, .. })
    }

    /// What the kernel answered, if it was that.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { source, .. } => Some(*source),
            Self::Fetch(error) => Some(error.source),
            Self::Proc(dormouse_kernel::proc::Error::Io { source, .. }) => Some(*source),
            _ => None,
        }
    }

    /// For `map_err`: the named call failed on `subject`.
    pub(crate) fn kernel(
        call: &'static str,
        subject: impl Into<PathBuf>,
    ) -> impl FnOnce(Errno) -> Self {
        let subject = subject.into();
        move |source| Self::Kernel { call, subject, source }
    }

    /// The same for an error of the standard library.
    pub(crate) fn kernel_io(
        call: &'static str,
        subject: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let kernel = Self::kernel(call, subject);
        // What has no number is none of the kernel's.
        move |error| kernel(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}
