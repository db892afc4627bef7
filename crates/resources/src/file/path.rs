//! Files by their path.
//!
//! Kernel object: an open file description on a regular file, a directory or
//! a character device that keeps no state; with `O_PATH` on anything that has
//! a path. Also mapped files, executables and directories in use, which have
//! no description.
//! Truth from: `/proc/PID/fd` and `fdinfo`, and the file system.
//! Image: `reg_file_entry` in `files.img`, see `location`.
//! Create: open, seek. What tells of changes until it is read (files of sysfs and cgroups) is read if
//! it has been; what is to tell of pressure on the system is told so.
//! Fill: the offset of a file about a task, when the task is complete.
//! Not preserved: `O_LARGEFILE` missing (32-bit programs), `O_TMPFILE` of a
//! file that has got a name since; hints of `posix_fadvise(2)`; who opened it, as far as the file system remembers that for later checks
//! (files of `/proc`); that mounts have changed which the program has not been told
//! of yet (`/proc/PID/mountinfo`).
//! Refused: directories with an owner, which are watched by `F_NOTIFY`; what
//! debugfs and tracefs have, as those files may do anything.
//! Scenarios: `files::proc*`; `crates/resources/tests`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::DeviceId;
use rustix::fs::{FileType, OFlags, SeekFrom, seek};

use super::inherit::key_of_path;
use super::location::Location;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, FsMagic, ImageSink,
    ImageSource, Inode, Probe, Stage, Status,
};
use crate::{Error, Result};

/// A file by its path.
#[derive(Debug)]
pub struct PathFile {
    location: Location,
    status: Status,
    /// `None`: the file has an offset that cannot be set.
    offset: Option<u64>,
}

/// CRIU's offset for a file that cannot be positioned.
const NO_OFFSET: u64 = u64::MAX;

/// Memory devices (`Documentation/admin-guide/devices.txt`).
const MEMORY: u32 = 1;

/// Whether the device keeps no state for whoever has it open.
fn is_stateless(probe: &Probe) -> bool {
    let device = probe.device();
    let writes_only = probe.info.flags & OFlags::ACCMODE == OFlags::WRONLY;
    device.major == MEMORY
        && match device.minor {
            // null, zero, full, random, urandom.
            3 | 5 | 7 | 8 | 9 => true,
            // kmsg: readers have a place in the log.
            11 => writes_only,
            _ => false,
        }
}

/// Whether it is a file of debugging or tracing: reading may take something out, or go on where
/// it was. Writing to the marker just leaves a mark.
fn has_own_rules(probe: &Probe) -> bool {
    let is_marker = || {
        let name = probe.link.file_name();
        let writes_only = probe.flags() & OFlags::ACCMODE == OFlags::WRONLY;
        writes_only && name.is_some_and(|name| name == "trace_marker" || name == "trace_marker_raw")
    };
    [FsMagic::DEBUG, FsMagic::TRACE].contains(&probe.file_system)
        && !probe.is_path_only()
        && !is_marker()
}

/// File systems whose files are more than they look.
const OTHER_ROOMS: [FsMagic; 7] = [
    FsMagic::ANON_INODE,
    FsMagic::MQUEUE,
    FsMagic::NS,
    FsMagic::PID,
    FsMagic::PIPE,
    FsMagic::SECRET_MEMORY,
    FsMagic::SOCKET,
];

impl FileKind for PathFile {
    const NAME: &'static str = "file";
    const TYPE: FdType = FdType::Reg;
    const RANKS: &'static [FillRank] = &[FillRank::Arm];

    fn claims(probe: &Probe) -> bool {
        // Queues are in one.
        let is_directory = probe.file_type() == FileType::Directory;
        if !probe.mounted || OTHER_ROOMS.contains(&probe.file_system) && !is_directory {
            return false;
        }
        match probe.file_type() {
            FileType::RegularFile => !has_own_rules(probe),
            FileType::Directory | FileType::Symlink => true,
            FileType::CharacterDevice => probe.is_path_only() || is_stateless(probe),
            FileType::Fifo | FileType::Socket | FileType::BlockDevice => probe.is_path_only(),
            FileType::Unknown => false,
        }
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let location = Location::collect(cx, probe)?;
        let status = Status::collect_with_any_access(cx, probe, OFlags::empty())?;
        if probe.file_type() == FileType::Directory && status.has_recipient() {
            return Err(Error::Unsupported {
                object: "a directory that signals its changes (F_NOTIFY)",
                detail: probe.link.clone().into(),
                reason: "the kernel does not tell which changes it is watched for",
                hint: "have the program use inotify in its place, or close the directory first",
            });
        }
        let writes_only = probe.flags() & OFlags::ACCMODE == OFlags::WRONLY;
        let is_kmsg = probe.file_type() == FileType::CharacterDevice
            && probe.device().minor == 11
            && writes_only;
        let offset = u64::try_from(probe.info.pos).ok().filter(|_| !is_kmsg);
        Ok(Self { location, status, offset })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { location, status, offset } = self;
        location.encode(id, status, offset.unwrap_or(NO_OFFSET), images)
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let (location, status, offset) = Location::decode(id, entry, images)?;
        let offset = Some(offset).filter(|&offset| offset != NO_OFFSET);
        Ok(Self { location, status, offset })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        self.location.stage()
    }

    fn create(&self, id: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { location, status, offset: _ } = self;
        let file = location.open(id, status.open_flags(), cx)?;
        // Whether it is nonblocking is known only if it is to be.
        let opened = status.open_flags() | OFlags::NONBLOCK;
        status.apply_over(opened, Self::NAME, file.as_fd())?;
        // That is written, and so moves the offset.
        location.watch_pressure(file.as_fd())?;
        if !location.is_about_task() {
            self.seek(file.as_fd())?;
        }
        if location.is_seen() {
            rustix::io::pread(&file, &mut [0; 1], 0).map_err(Error::kernel("read", Self::NAME))?;
        }
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        Some(self)
    }

    fn fill(_: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        for Created { id: _, kind, file } in files {
            if kind.location.is_about_task() {
                // The kernel finds the place by what it gives up to there.
                kind.seek(*file)?;
            } else if kind.location.is_about_dead() && kind.status.reads() {
                // What it kept to give next was of the task that stood for it.
                // Looking in vain elsewhere has it forget that.
                let _ = rustix::io::pread(file, &mut [0; 1], 0);
            }
        }
        Ok(())
    }
}

impl PathFile {
    /// See [`File::former_inode`](super::File).
    pub(super) fn former_inode(&self) -> Option<(DeviceId, u64)> {
        self.location.former_inode()
    }

    /// Gives `file` the offset.
    pub(super) fn seek(&self, file: BorrowedFd<'_>) -> Result<()> {
        match self.offset {
            // A fresh file stands there already, and not all of them can be
            // positioned.
            None | Some(0) => {}
            Some(_) if self.status.is_path_only() => {}
            Some(offset) => {
                seek(file, SeekFrom::Start(offset))
                    .map_err(Error::kernel("lseek", self.location.name()))?;
            }
        }
        Ok(())
    }

    /// See [`File::inherit_key`](super::File::inherit_key).
    pub(super) fn inherit_key(&self) -> Option<String> {
        key_of_path(self.location.name())
    }
}

impl Inode for PathFile {
    fn open(&self, id: FileId, flags: OFlags, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        self.location.open(id, flags, cx)
    }
}
