//! What can go wrong when items are inserted.

use std::io;

use thiserror::Error;

use crate::event::FdNumber;

/// Why items could not be put in. `epoll` is an index into the set.
#[derive(Debug, Error)]
pub enum InsertError {
    /// No thread with an fd table of its own: out of memory or of threads.
    #[error("cannot start a thread with an fd table of its own")]
    Thread(#[source] io::Error),
    /// No process that adds items and ends.
    #[error("cannot have a process add items and end")]
    Process(#[source] io::Error),
    /// The caller gave no descriptor for an epoll.
    #[error("no descriptor for epoll {epoll} of the set")]
    NoEpoll {
        /// Which epoll.
        epoll: usize,
    },
    /// The caller gave no descriptor for the file of an item.
    #[error("no descriptor for the file of item {fd} in epoll {epoll} of the set")]
    NoFile {
        /// Which epoll.
        epoll: usize,
        /// The number in the item's key.
        fd: FdNumber,
    },
    /// A file cannot be put under the number of its item. `EBADF` if that is
    /// not below `RLIMIT_NOFILE`.
    #[error("cannot put a file under descriptor {fd} for epoll {epoll} of the set")]
    Place {
        /// Which epoll.
        epoll: usize,
        /// The number in the item's key.
        fd: FdNumber,
        /// What `dup2` said.
        source: io::Error,
    },
    /// The kernel refuses the item: see `epoll_ctl(2)`. `ENOSPC` at the
    /// user's limit of watches, `ELOOP` and `EINVAL` where epolls are nested
    /// too deep or too wide, `EPERM` for a file that cannot be polled.
    #[error("cannot insert descriptor {fd} into epoll {epoll} of the set")]
    Control {
        /// Which epoll.
        epoll: usize,
        /// The number in the item's key.
        fd: FdNumber,
        /// What `epoll_ctl` said.
        source: io::Error,
    },
    /// `epoll_wait` failed: the descriptor given is no epoll.
    #[error("cannot take events out of epoll {epoll} of the set")]
    Wait {
        /// Which epoll.
        epoll: usize,
        /// What `epoll_wait` said.
        source: io::Error,
    },
    /// The files cannot be asked what they report.
    #[error("cannot poll the files of the set")]
    Poll(#[source] io::Error),
    /// A file was made ready for a moment, and cannot be put back as it was.
    #[error("cannot undo the moment's readiness of a file")]
    Undo(#[source] io::Error),
}
