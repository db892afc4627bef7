//! What is known of an open file before any room has claimed it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use dormouse_kernel::proc::{FdInfo, ProcDir};
use dormouse_kernel::{FdNum, HostPid, pidfd};
use rustix::fs::{FileType, OFlags, Stat};

use super::FileId;
use crate::{Error, Result};

/// Where the file was found.
#[derive(Clone, Debug)]
pub enum Holder {
    /// In an fd table.
    Fd {
        /// A task that uses the table.
        task: HostPid,
        /// The number there.
        fd: FdNum,
    },
    /// Behind a link of `/proc/PID`: `exe`, `cwd`, `root` or one of
    /// `map_files`. Such a file has no open file description of its own to
    /// duplicate.
    Link {
        /// The process.
        task: HostPid,
        /// The link, below `/proc/PID`.
        link: PathBuf,
    },
}

/// One open file description (or mapped file, or directory in use), and what
/// `/proc` says of it.
#[derive(Debug)]
pub struct Probe {
    /// Its number in this dump.
    pub id: FileId,
    /// One of the places that hold it.
    pub holder: Holder,
    /// What the link in `/proc/PID/fd` reads: a path, or a name such as
    /// `pipe:[1234]` or `anon_inode:[eventfd]`.
    pub link: PathBuf,
    /// The inode.
    pub stat: Stat,
    /// `/proc/PID/fdinfo`; for a [`Holder::Link`], offset 0 and the flags
    /// such a file is to be opened with.
    pub info: FdInfo,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Table { proc: Rc<ProcDir>, pidfd: Rc<OwnedFd> },
    Link { path: OwnedFd },
}

impl Probe {
    /// A descriptor in the fd table of the task behind `proc` and `pidfd`.
    #[must_use]
    pub fn of_fd(
        id: FileId,
        task: HostPid,
        fd: FdNum,
        proc: Rc<ProcDir>,
        pidfd: Rc<OwnedFd>,
        (link, stat, info): (PathBuf, Stat, FdInfo),
    ) -> Self {
        let holder = Holder::Fd { task, fd };
        Self { id, holder, link, stat, info, source: Source::Table { proc, pidfd } }
    }

    /// A file behind a link of `/proc/PID`, opened as `path` with `O_PATH`.
    #[must_use]
    pub fn of_link(
        id: FileId,
        (task, name): (HostPid, PathBuf),
        path: OwnedFd,
        (link, stat, info): (PathBuf, Stat, FdInfo),
    ) -> Self {
        let holder = Holder::Link { task, link: name };
        Self { id, holder, link, stat, info, source: Source::Link { path } }
    }

    /// The type bits of the inode's mode.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// The status flags of the open file description, as `F_GETFL` gives
    /// them, plus `O_PATH`; close-on-exec belongs to the descriptor and is
    /// not among them.
    #[must_use]
    pub fn flags(&self) -> OFlags {
        self.info.flags.difference(OFlags::CLOEXEC)
    }

    /// The name between `anon_inode:` and the end of the link, if that is
    /// what the file is, without brackets.
    #[must_use]
    pub fn anonymous_inode(&self) -> Option<&str> {
        let name = self.link.to_str()?.strip_prefix("anon_inode:")?;
        Some(name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name))
    }

    /// A descriptor of this process on the same open file description. For
    /// a file behind a link there is none, and this is one opened `O_PATH`.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        match (&self.source, &self.holder) {
            (Source::Table { pidfd, .. }, Holder::Fd { fd, .. }) => {
                pidfd::getfd(pidfd.as_fd(), *fd).map_err(|error| Error::Kernel {
                    call: "pidfd_getfd",
                    subject: self.link.clone(),
                    source: error.source,
                })
            }
            (Source::Link { path }, _) => {
                path.try_clone().map_err(|_| Error::Kernel {
                    call: "dup",
                    subject: self.link.clone(),
                    source: rustix::io::Errno::MFILE,
                })
            }
            (Source::Table { .. }, Holder::Link { .. }) => unreachable!("the constructors pair them"),
        }
    }

    /// A new open file description on the same inode, opened through
    /// `/proc`, whatever has become of its path.
    pub fn reopen(&self, flags: OFlags) -> Result<OwnedFd> {
        match (&self.source, &self.holder) {
            (Source::Table { proc, .. }, Holder::Fd { fd, .. }) => Ok(proc.open_fd(*fd, flags)?),
            (Source::Link { path }, _) => reopen(path.as_fd(), flags)
                .map_err(Error::kernel("open", self.link.clone())),
            (Source::Table { .. }, Holder::Link { .. }) => unreachable!("the constructors pair them"),
        }
    }
}

/// A new open file description on the inode behind a descriptor of this
/// process, even one opened `O_PATH`.
pub fn reopen(fd: std::os::fd::BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty())
}
