//! What `/proc` says of a file wherever one is found.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use dormouse_kernel::FdNum;
use dormouse_kernel::proc::{self, Entry, Extra, FdInfo, ProcDir};
use rustix::fs::{AtFlags, OFlags, Stat, StatxFlags, fstat, statat, statx};
use rustix::io::Errno;

use crate::{Error, Result};

/// What a link of `/proc` reads.
pub(super) fn link(proc: &ProcDir, entry: Entry) -> Result<PathBuf> {
    match proc.link(entry) {
        Ok(link) => Ok(link.into()),
        Err(proc::Error::Io { source: Errno::NAMETOOLONG, .. }) => Err(Error::Unsupported {
            object: "a file",
            detail: entry.to_string().into(),
            reason: "its path is longer than the kernel tells (4096 bytes)",
            hint: "give a directory on the way a shorter name",
        }),
        Err(error) => Err(error.into()),
    }
}

/// What can be said of a file without touching it.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What the link reads: a path as seen from this process's root, or a
    /// name such as `pipe:[1234]` or `anon_inode:[eventfd]`.
    pub link: PathBuf,
    /// The inode.
    pub stat: Stat,
    /// `/proc/PID/fdinfo`; for a file that is in no fd table, offset 0 and
    /// the flags it is to be opened with.
    pub info: FdInfo,
}

impl Sighting {
    /// Descriptor `fd` of the task whose directory `proc` is.
    ///
    /// # Errors
    /// The task or its descriptor is gone, or may not be looked at.
    pub fn of_fd(proc: &ProcDir, fd: FdNum) -> Result<Self> {
        let info = proc.fdinfo(fd)?;
        let (link, stat) = Self::place(proc, fd)?;
        Ok(Self { link, stat, info })
    }

    /// The same without `fdinfo`.
    pub(super) fn place(proc: &ProcDir, fd: FdNum) -> Result<(PathBuf, Stat)> {
        let link = link(proc, Entry::Fd(fd))?;
        // Follows the link to the very file, whatever has become of its name.
        let stat = statat(proc.as_fd(), Entry::Fd(fd).to_string(), AtFlags::empty())
            .map_err(Error::kernel("stat", &link))?;
        Ok((link, stat))
    }

    /// The file behind another link of the task: `exe`, `cwd`, `root` or one
    /// of `map_files`; and the file itself, opened with `O_PATH`. `flags` is
    /// how it is to be opened again.
    ///
    /// # Errors
    /// There is no such link, or it may not be followed (`map_files` takes
    /// `CAP_CHECKPOINT_RESTORE`).
    pub fn of_link(proc: &ProcDir, entry: Entry, flags: OFlags) -> Result<(Self, OwnedFd)> {
        let link = link(proc, entry)?;
        let file = proc.open_entry(entry, OFlags::PATH)?;
        let stat = fstat(&file).map_err(Error::kernel("fstat", &link))?;
        let mount = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .map_err(Error::kernel("statx", &link))?;
        let info = FdInfo {
            pos: 0,
            flags,
            // The kernel numbers mounts with an int.
            mount_id: i32::try_from(mount.stx_mnt_id).unwrap_or(-1),
            inode: Some(stat.st_ino),
            locks: Vec::new(),
            extra: Extra::None,
        };
        Ok((Self { link, stat, info }, file))
    }
}
