//! Files that whoever restores hands over (`--inherit-fd`), in the place of
//! those in the images.
//!
//! Truth from: CRIU's names for files (`file_desc_ops.name`): the path without
//! its first slash, `pipe:[INODE]`, `tty[RDEV:DEV]`, `/memfd:NAME`, and of external files the
//! key they were dumped with.
//! Create: a new open file description on the inode that was handed over, with
//! the flags and offset of the old one; where the kernel cannot make that, the
//! very one that was handed over.
//! Not preserved: what was in a pipe; whoever hands one over looks after that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;

use super::probe::reopen;
use super::{File, FileId};
use crate::{Error, Result};

impl File {
    /// What the file is called on the command line.
    pub(super) fn inherit_key(&self) -> Option<String> {
        match self {
            Self::Path(file) => file.inherit_key(),
            Self::Fifo(fifo) => fifo.inherit_key(),
            Self::Pipe(pipe) => Some(pipe.inherit_key()),
            Self::Memfd(memfd) => memfd.inherit_key(),
            Self::Terminal(terminal) => Some(terminal.inherit_key()),
            _ => None,
        }
    }

    /// The file that stands for this one, by a descriptor that was handed over.
    pub(super) fn take_over(&self, id: FileId, given: BorrowedFd<'_>) -> Result<OwnedFd> {
        let status = self.status();
        let flags = status.open_flags() | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match reopen(given, flags) {
            Ok(file) => file,
            Err(_) => given
                .try_clone_to_owned()
                .map_err(Error::kernel_io("dup", format!("file {id} of the images")))?,
        };
        status.apply(self.name(), file.as_fd())?;
        if let Self::Path(path) = self {
            path.seek(file.as_fd())?;
        }
        Ok(file)
    }

    /// Whether it is filled although it was handed over.
    pub(super) fn is_filled_anyway(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }
}

/// A path as the command line has it.
pub(super) fn key_of_path(path: &std::path::Path) -> Option<String> {
    let path = path.to_str()?;
    Some(path.strip_prefix('/').unwrap_or(path).to_owned())
}
