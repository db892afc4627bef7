//! Inodes that have no name left: their whole state is in the images.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use dormouse_image::proto::files::reg::GhostFileEntry;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::DeviceId;
use rustix::fs::{FileType, OFlags, readlinkat};

use super::contents::Contents;
use super::remap::RemapSink;
use crate::corrupt::corrupt;
use crate::file::extended::Extended;
use crate::file::times::Times;
use crate::file::{FileId, ImageSink, InodeId, Probe};
use crate::{Error, Result};

/// An inode without a name.
#[derive(Debug)]
pub(super) struct Ghost {
    id: InodeId,
    pub(super) inode: Attributes,
    pub(super) contents: Contents,
    /// Who will open it.
    pub(super) users: RefCell<Vec<User>>,
}

/// What `stat(2)` tells of it, and will again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    /// Where it was, by which watches may name it.
    pub(super) device: DeviceId,
    pub(super) number: u64,
    /// Of a device.
    pub(super) rdev: DeviceId,
    pub(super) times: Times,
    /// In bytes, of a regular file.
    pub(super) size: u64,
    /// Of a symbolic link.
    pub(super) target: Option<Vec<u8>>,
    pub(super) extended: Extended,
}

/// An entry of `files.img` that stands for a ghost.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: FileId,
    pub(super) name: PathBuf,
    pub(super) flags: OFlags,
}

impl Attributes {
    fn collect(probe: &Probe) -> Result<Self> {
        let stat = &probe.stat;
        let target = match probe.file_type() {
            FileType::Symlink => {
                let link = probe.duplicate()?;
                let target = readlinkat(&link, "", Vec::new())
                    .map_err(Error::kernel("readlink", &probe.link))?;
                Some(target.into_bytes())
            }
            _ => None,
        };
        let size = match probe.file_type() {
            FileType::RegularFile => u64::try_from(stat.st_size).unwrap_or(0),
            _ => 0,
        };
        let extended = match probe.file_type() {
            FileType::RegularFile | FileType::Directory => {
                let file = probe.reopen(OFlags::RDONLY | OFlags::NONBLOCK)?;
                Extended::collect(file.as_fd(), ("an unlinked file", &probe.link))?
            }
            _ => Extended::default(),
        };
        Ok(Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode,
            device: DeviceId::from_stat(stat.st_dev),
            number: stat.st_ino,
            rdev: probe.device(),
            times: Times::of(stat),
            size,
            target,
            extended,
        })
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    fn entry(&self, chunks: bool) -> GhostFileEntry {
        let Self { uid, gid, mode, device, number, rdev, times, size, target, extended } = self;
        let is_device =
            matches!(self.file_type(), FileType::CharacterDevice | FileType::BlockDevice);
        // As stat(2) packs it: that fits 32 bits as long as minors have 20.
        let rdev = rdev.as_stat() as u32;
        let ((atim, atim_nsec), (mtim, mtim_nsec)) = times.entries();
        GhostFileEntry {
            uid: *uid,
            gid: *gid,
            mode: *mode,
            dev: Some(device.as_kernel()),
            ino: Some(*number),
            rdev: is_device.then_some(rdev),
            atim,
            mtim,
            chunks: chunks.then_some(true),
            size: chunks.then_some(*size),
            symlnk_target: target.clone(),
            atim_nsec,
            mtim_nsec,
            xattrs: extended.encode(),
        }
    }
}

impl Ghost {
    pub(super) fn id(&self) -> InodeId {
        self.id
    }

    /// Writes the ghost's image, the first time it is asked to.
    pub(super) fn encode(&self, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { id, inode, contents, users: _ } = self;
        if !images.part::<RemapSink>().is_new(*id) {
            return Ok(());
        }
        let mut writer = images.dump().writer(ImageName::GhostFile(id.as_raw()))?;
        let chunks = contents.are_chunks(inode.size);
        writer.put(&inode.entry(chunks))?;
        contents.encode(inode.size, &mut writer)?;
        Ok(writer.finish()?)
    }

    /// Reads a ghost's image. Contents stay there.
    pub(super) fn decode(id: InodeId, dir: &ImageDir) -> Result<Self> {
        let image = ImageName::GhostFile(id.as_raw());
        let wrong = |reason| corrupt(image, "ghost file", id.as_raw(), reason);
        let mut reader = dir.reader(image)?.ok_or_else(|| wrong("there is no such image"))?;
        let entry: GhostFileEntry = reader.need_message()?;
        let GhostFileEntry { uid, gid, mode, dev, ino, rdev, .. } = entry;
        let GhostFileEntry { atim, mtim, chunks, size, symlnk_target, .. } = entry;
        let is_regular = FileType::from_raw_mode(mode) == FileType::RegularFile;
        let contents = Contents::decode(&mut reader, chunks.unwrap_or(false), is_regular)?;
        reader.end()?;
        let size = match size {
            _ if !is_regular => 0,
            Some(size) => size,
            None if chunks.unwrap_or(false) => return Err(wrong("it has chunks, but no size")),
            None => contents.end(),
        };
        if contents.end() > size || i64::try_from(size).is_err() {
            return Err(wrong("its contents are longer than it is"));
        }
        match FileType::from_raw_mode(mode) {
            FileType::Symlink if !symlnk_target.as_ref().is_some_and(|to| is_target(to)) => {
                return Err(wrong("it is a symbolic link to nothing"));
            }
            FileType::CharacterDevice | FileType::BlockDevice if rdev.is_none() => {
                return Err(wrong("it is a device without a number"));
            }
            FileType::Unknown => return Err(wrong("its mode is of no type of file")),
            _ => {}
        }
        let times =
            Times::decode((atim, entry.atim_nsec), (mtim, entry.mtim_nsec)).map_err(wrong)?;
        let inode = Attributes {
            uid,
            gid,
            mode,
            device: DeviceId::from_kernel(dev.unwrap_or(0)),
            number: ino.unwrap_or(0),
            rdev: DeviceId::from_stat(rdev.unwrap_or(0).into()),
            times,
            size,
            target: symlnk_target,
            extended: Extended::decode(entry.xattrs).map_err(wrong)?,
        };
        Ok(Self { id, inode, contents, users: RefCell::default() })
    }

    /// Notes that entry `id` of `files.img` will open the ghost by `name`.
    pub(super) fn used_by(&self, id: FileId, name: &Path, flags: OFlags) {
        self.users.borrow_mut().push(User { id, name: name.to_owned(), flags });
    }
}

/// What a symbolic link can lead to.
fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && !target.contains(&0)
}

/// The ghosts of a dump, by device and inode.
#[derive(Default)]
pub(super) struct Ghosts(BTreeMap<(u64, u64), Rc<Ghost>>);

impl Ghosts {
    /// The ghost that `probe` is.
    pub(super) fn collect(
        &mut self,
        probe: &Probe,
        fresh: impl FnOnce() -> u32,
    ) -> Result<Rc<Ghost>> {
        let key = (probe.stat.st_dev, probe.stat.st_ino);
        if let Some(ghost) = self.0.get(&key) {
            return Ok(Rc::clone(ghost));
        }
        let inode = Attributes::collect(probe)?;
        let contents = match probe.file_type() {
            FileType::RegularFile => Contents::Open(probe.origin()),
            _ => Contents::None,
        };
        let id = InodeId::from_raw(fresh());
        let ghost = Rc::new(Ghost { id, inode, contents, users: RefCell::default() });
        self.0.insert(key, Rc::clone(&ghost));
        Ok(ghost)
    }
}
