//! What is told of an open file.

use std::path::PathBuf;

use dormouse_kernel::FdNum;
use dormouse_kernel::proc::{Entry, Extra, FdInfo, ProcDir};
use epoll_interest::FileKey;
use epoll_interest::kernel_memory::Address;
use rustix::fs::{OFlags, Stat};

use super::anonymous::ShortName;
use super::eventfd::Counter;
use super::{KernelFiles, KernelSocket};
use crate::Result;
use crate::file::sighting::link;
use crate::file::{FsMagic, Sighting};

/// An open file description, told from all others. Good as long as it is open
/// anywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelFileId(pub(super) Address);

impl KernelFileId {
    /// By what items of epolls name it.
    pub(crate) const fn watched_as(self) -> FileKey {
        FileKey::of_file(self.0)
    }
}

impl std::fmt::Debug for KernelFileId {
    // A kernel address does not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KernelFileId(..)")
    }
}

/// An open file, as it was found in an fd table.
#[derive(Clone, Copy)]
pub struct KernelFile {
    /// What tells it from others.
    pub id: KernelFileId,
    pub(super) flags: OFlags,
    pub(super) position: i64,
    pub(super) mount_id: i32,
    /// What `fdinfo` has to tell beyond that.
    pub(super) more: More,
    /// Whether it can have locks to tell of as well.
    pub(super) may_be_locked: bool,
    /// Whether somebody gets its signals, or it was told which.
    pub(crate) has_owner: bool,
    pub(super) inode: Inode,
    /// Of one that has no inode of its own.
    pub(super) name: Option<ShortName>,
    /// Of a socket.
    pub(crate) socket: Option<KernelSocket>,
}

impl std::fmt::Debug for KernelFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelFile").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
pub(super) struct Inode {
    /// Where it is, and the file system it is on.
    pub(super) at: (Address, Address),
    pub(super) of: Nameless,
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) number: u64,
}

/// What an inode is that no directory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nameless {
    Socket,
    Pipe,
    /// Some directory may have it.
    No,
}

/// What `fdinfo` tells of the kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    Nothing,
    Eventfd(Counter),
    /// It is to be asked.
    Unknown,
}

impl KernelFile {
    /// What `/proc` would say of descriptor `fd` of the task whose directory
    /// `proc` is, asked for only as far as it is not known.
    ///
    /// # Errors
    /// As [`Sighting::of_fd`].
    pub fn sighting(&self, files: &mut KernelFiles, proc: &ProcDir, fd: FdNum) -> Result<Sighting> {
        let Inode { at, of, mode, user, group, number } = self.inode;
        let nameless = |kind, like| {
            let link = PathBuf::from(format!("{kind}:[{number}]"));
            (link, nameless(like, number, mode, (user, group)))
        };
        let (link, stat) = match of {
            Nameless::Socket => nameless("socket", files.sockets.1),
            Nameless::Pipe => nameless("pipe", files.pipes.1),
            Nameless::No => match files.shared.get(&at.0) {
                Some(stat) => match self.name {
                    Some(name) => (name.link(), *stat),
                    None => (link(proc, Entry::Fd(fd))?, *stat),
                },
                None => Sighting::place(proc, fd)?,
            },
        };
        if files.file_system(self) == Some(FsMagic::ANON_INODE) {
            files.shared.insert(at.0, stat);
        }
        let info = |extra| FdInfo {
            pos: self.position,
            flags: self.flags,
            mount_id: self.mount_id,
            inode: Some(number),
            locks: Vec::new(),
            extra,
        };
        let info = match self.more {
            _ if self.may_be_locked => proc.fdinfo(fd)?,
            More::Nothing => info(Extra::None),
            More::Eventfd(counter) => info(counter.extra()),
            More::Unknown => proc.fdinfo(fd)?,
        };
        Ok(Sighting { link, stat, info })
    }
}

/// What `stat(2)` says of another inode without a name, but for its times.
fn nameless(like: Stat, number: u64, mode: u32, (user, group): (u32, u32)) -> Stat {
    let mut stat = like;
    stat.st_ino = number;
    stat.st_mode = mode;
    (stat.st_uid, stat.st_gid) = (user, group);
    (stat.st_atime, stat.st_mtime, stat.st_ctime) = (0, 0, 0);
    (stat.st_atime_nsec, stat.st_mtime_nsec, stat.st_ctime_nsec) = (0, 0, 0);
    stat
}
