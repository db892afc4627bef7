//! Inodes that inotifies and fanotifies watch.
//!
//! The kernel names them by file handle. The path is asked of the inode, and
//! tried first when it is looked for again; one that was deleted is found by a
//! file of the tree that has it open.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use dormouse_image::proto::files::fsnotify::FhEntry;
use dormouse_kernel::DeviceId;
use dormouse_kernel::handle::open_by_handle;
use dormouse_kernel::proc::{FileHandle, ProcDir};
use rustix::fs::{Mode, OFlags, Stat, fstat, lstat, open, readlink};
use rustix::io::fcntl_dupfd_cloexec;

use super::{CollectCx, FileId, FileRef, FillCx};
use crate::error::Change;
use crate::{Error, Result};

/// An inode that is watched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Watched {
    inode: u64,
    device: DeviceId,
    handle: FileHandle,
    place: Place,
}

/// How to find an inode besides by its handle.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// There.
    Path(PathBuf),
    /// It was deleted, and this has it open.
    Open(FileRef),
    /// Not at all.
    Unknown,
}

/// Bytes of a handle in the image (`FhEntry`).
const HANDLE_WORDS: usize = 16;
/// What it takes to find inodes.
#[derive(Debug, Default)]
pub(super) struct FileSystems {
    /// A directory on each file system, from which its handles are opened.
    roots: BTreeMap<u32, Option<OwnedFd>>,
    /// Open files of the tree by device and inode, once one was asked for.
    open: Option<BTreeMap<(u64, u64), FileId>>,
    /// At the restore, those that are on new inodes, by the old ones.
    renewed: Option<BTreeMap<(DeviceId, u64), FileRef>>,
}

impl FileSystems {
    /// A directory on this file system, if there is one to be reached.
    pub(super) fn of(&mut self, device: DeviceId) -> Result<Option<BorrowedFd<'_>>> {
        let key = device.as_kernel();
        if let Entry::Vacant(place) = self.roots.entry(key) {
            let mounts = ProcDir::of_self()?.mounts()?;
            let on_it = mounts.iter().filter(|mount| mount.device == device);
            // Another mount may cover it.
            let is_it = |root: &OwnedFd| {
                fstat(root).is_ok_and(|stat| DeviceId::from_stat(stat.st_dev) == device)
            };
            let mut roots = on_it.filter_map(|mount| root(&mount.mount_point));
            place.insert(roots.find(is_it));
        }
        Ok(self.roots[&key].as_ref().map(AsFd::as_fd))
    }

    fn open(&mut self, device: DeviceId, handle: &FileHandle) -> Result<Option<OwnedFd>> {
        let Some(file_system) = self.of(device)? else { return Ok(None) };
        Ok(open_by_handle(file_system, handle, OFlags::PATH | OFlags::NOFOLLOW).ok())
    }

    /// The file that was on this inode, which had no name.
    fn renewed(&mut self, cx: &FillCx<'_>, inode: (DeviceId, u64)) -> Option<FileRef> {
        self.renewed.get_or_insert_with(|| cx.former_inodes().collect()).get(&inode).copied()
    }

    /// Who has this inode open.
    fn holder(&mut self, cx: &CollectCx<'_>, stat: &Stat) -> Option<FileRef> {
        let open = self.open.get_or_insert_with(|| {
            let descriptions = cx.probes.values().filter(|probe| probe.has_description());
            descriptions.map(|probe| ((probe.stat.st_dev, probe.stat.st_ino), probe.id)).collect()
        });
        open.get(&(stat.st_dev, stat.st_ino)).copied().map(FileRef)
    }
}

fn root(path: &Path) -> Option<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// A path to an open file, of whatever kind.
pub(super) fn own_path(file: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

impl Watched {
    /// Finds the inode of this number and device for a watch that errors name
    /// by its kind and in detail.
    pub(super) fn collect(
        cx: &CollectCx<'_>,
        (object, detail): (&'static str, &str),
        (inode, device): (u64, DeviceId),
        handle: Option<&FileHandle>,
    ) -> Result<Self> {
        let refuse =
            |reason, hint| Err(Error::Unsupported { object, detail: detail.into(), reason, hint });
        let Some(handle) = handle.filter(|handle| handle.bytes.len() <= HANDLE_WORDS * 8) else {
            return refuse(
                "its file system tells no way to find what is watched",
                "watch files of another file system",
            );
        };
        let Some(file) = cx.part::<FileSystems>().open(device, handle)? else {
            return refuse(
                "what it watches cannot be found from here",
                "run dormouse in the mount namespace of the program",
            );
        };
        let asked = |call| Error::kernel(call, detail);
        let stat = fstat(&file).map_err(asked("fstat"))?;
        let place = if stat.st_nlink == 0 {
            let Some(holder) = cx.part::<FileSystems>().holder(cx, &stat) else {
                return refuse(
                    "what it watches has been deleted, and no process of the tree has it open",
                    "checkpoint the tree together with the process that has it open",
                );
            };
            Place::Open(holder)
        } else {
            let link = readlink(own_path(file.as_fd()), Vec::new()).map_err(asked("readlink"))?;
            let path = PathBuf::from(OsString::from_vec(link.into_bytes()));
            let is_there =
                lstat(&path).is_ok_and(|at| (at.st_dev, at.st_ino) == (stat.st_dev, stat.st_ino));
            if is_there { Place::Path(path) } else { Place::Unknown }
        };
        Ok(Self { inode, device, handle: handle.clone(), place })
    }

    /// Its number, and its device as images have it.
    pub(super) fn number(&self) -> (u64, u32) {
        (self.inode, self.device.as_kernel())
    }

    /// Its handle and path, and the open file that has it.
    pub(super) fn encode(&self) -> (FhEntry, Option<u32>) {
        let Self { inode: _, device: _, handle, place } = self;
        let (path, target) = match place {
            Place::Path(path) => (Some(path.as_os_str().as_bytes().to_vec()), None),
            Place::Open(file) => (None, Some(file.id().as_raw())),
            Place::Unknown => (None, None),
        };
        let mut words = [0; HANDLE_WORDS];
        for (word, bytes) in words.iter_mut().zip(handle.bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        let entry = FhEntry {
            // Longer ones were refused.
            bytes: handle.bytes.len() as u32,
            kind: handle.kind.cast_unsigned(),
            handle: words.to_vec(),
            path,
            mnt_id: None,
        };
        (entry, target)
    }

    pub(super) fn decode(
        (inode, device): (u64, u32),
        entry: &FhEntry,
        target: Option<FileRef>,
    ) -> Result<Self, &'static str> {
        let FhEntry { bytes, kind, handle, path, mnt_id: _ } = entry;
        let all: Vec<u8> = handle.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let bytes = all.get(..*bytes as usize).ok_or("a handle is shorter than it says")?;
        if bytes.len() > HANDLE_WORDS * 8 {
            return Err("a handle is too long");
        }
        let place = match (target, path) {
            (Some(target), _) => Place::Open(target),
            // CRIU's are relative to the root.
            (None, Some(path)) => {
                Place::Path(Path::new("/").join(OsString::from_vec(path.clone())))
            }
            (None, None) => Place::Unknown,
        };
        let handle = FileHandle { kind: kind.cast_signed(), bytes: bytes.into() };
        Ok(Self { inode, device: DeviceId::from_kernel(device), handle, place })
    }

    /// Opens it by `O_PATH`, for a watch of the kind `object`.
    pub(super) fn open(
        &self,
        object: &'static str,
        cx: &FillCx<'_>,
        file_systems: &mut FileSystems,
    ) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let duplicate =
            |file| fcntl_dupfd_cloexec(cx.file(file), 0).map_err(Error::kernel("dup", object));
        let found = match &self.place {
            Place::Open(file) => return duplicate(*file),
            Place::Path(path) => open(path, flags, Mode::empty()).ok(),
            Place::Unknown => None,
        };
        let found = match found {
            Some(file) => Some(file),
            // CRIU does not say that the inode is one of those.
            None => match file_systems.renewed(cx, (self.device, self.inode)) {
                Some(file) => return duplicate(file),
                None => file_systems.open(self.device, &self.handle)?,
            },
        };
        found.ok_or_else(|| {
            let path = match &self.place {
                Place::Path(path) => path.clone(),
                _ => format!("inode {} of device {}", self.inode, self.device).into(),
            };
            Error::Changed { path, change: Change::Missing }
        })
    }
}
