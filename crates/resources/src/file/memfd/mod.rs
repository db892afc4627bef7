//! Memfds.
//!
//! Kernel object: an open file description on an inode of the kernel's own
//! tmpfs or hugetlbfs: made by `memfd_create(2)`, or shared anonymous memory
//! that was opened through `/proc/PID/map_files`.
//! Truth from: `/proc/PID/fd` and `fdinfo`, `F_GET_SEALS`.
//! Image: `memfd_file_entry` in `files.img`, `memfd_inode_entry` in
//! `memfd.img`; contents are memory's.
//! Create: `memfd_create(2)`, contents at once. The first description for
//! reading and writing is the one that made, as only that lets the memfd be
//! executed (`fexecve(3)`); all others are opened through `/proc`.
//! Fill: nothing; times and seals are set when everything is mapped and written.
//! Not preserved: the change time; that shared anonymous memory was none; times of such memory
//! that is not open as a file.
//! Kernel needed: any; before 6.5, and to users who may not write the memfd, it does not tell which
//! parts are allocated (`fallocate(2)`) and were never written: they come back as holes.
//! Scenarios: `crates/resources/tests`.

mod allocated;
mod attributes;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use dormouse_image::proto::files::memfd::{MemfdFileEntry, MemfdInodeEntry};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use rustix::fs::{FileType, OFlags, SeekFrom, seek};
use rustix::io::fcntl_dupfd_cloexec;

use crate::corrupt::corrupt;
use crate::file::create::{Milestone, Stash};
use crate::file::probe::reopen;
use crate::file::sink::SinkPart;
use crate::file::source::SourcePart;
use crate::file::{
    CollectCx, CreateCx, Created, File, FileId, FileKind, FillCx, FillRank, FsMagic, ImageSink,
    ImageSource, Inode, InodeId, Probe, Stage, Status,
};
use crate::{Error, Result};
use attributes::Attributes;

/// An open memfd, or a mapped one.
#[derive(Debug)]
pub struct Memfd {
    status: Status,
    offset: u64,
    inode: Rc<MemfdInode>,
}

/// What all its descriptions and mappings have in common.
#[derive(Debug)]
struct MemfdInode {
    id: InodeId,
    attributes: Attributes,
    /// At the restore, all files with this inode.
    users: RefCell<Vec<FileId>>,
}

/// The memfds of a dump, by device and inode.
#[derive(Default)]
struct Collected(BTreeMap<(u64, u64), Rc<MemfdInode>>);

/// `memfd.img`, to be written.
#[derive(Default)]
struct Sink(BTreeMap<InodeId, MemfdInodeEntry>);

impl SinkPart for Sink {
    fn finish(self: Box<Self>, dump: &NewPart) -> Result<()> {
        Ok(dump.put_all(ImageName::MemfdInode, self.0.values())?)
    }
}

/// `memfd.img`, read.
struct Source(BTreeMap<InodeId, Rc<MemfdInode>>);

impl SourcePart for Source {
    fn open(dir: &ImageDir) -> Result<Self> {
        let mut inodes = BTreeMap::new();
        for entry in dir.get_all::<MemfdInodeEntry>(ImageName::MemfdInode)? {
            let wrong = |reason| corrupt(ImageName::MemfdInode, "memfd", entry.inode_id, reason);
            let id = u32::try_from(entry.inode_id).map_err(|_| wrong("its number is too high"))?;
            let (id, users) = (InodeId::from_raw(id), RefCell::default());
            let attributes = Attributes::decode(&entry).map_err(wrong)?;
            if inodes.insert(id, Rc::new(MemfdInode { id, attributes, users })).is_some() {
                return Err(wrong("it is there twice"));
            }
        }
        Ok(Self(inodes))
    }

    fn end(self) -> Result<()> {
        match self.0.values().find(|inode| inode.users.borrow().is_empty()) {
            None => Ok(()),
            Some(inode) => {
                let (id, reason) = (inode.id.as_raw(), "no file has this inode");
                Err(corrupt(ImageName::MemfdInode, "memfd", id, reason))
            }
        }
    }
}

/// Memfds that were made and are still needed.
#[derive(Default)]
struct Made(BTreeMap<InodeId, MadeInode>);

struct MadeInode {
    file: OwnedFd,
    inode: Rc<MemfdInode>,
    /// Whether a description is the one that `file` has.
    taken: bool,
}

impl Stash for Made {
    fn reached(&mut self, milestone: Milestone) -> Result<()> {
        match milestone {
            Milestone::Created => Ok(()),
            Milestone::Mapped => std::mem::take(&mut self.0)
                .into_values()
                .try_for_each(|made| made.inode.attributes.finish(made.file.as_fd())),
        }
    }
}

impl MadeInode {
    /// The description that `memfd_create(2)` made.
    fn original(&self) -> Result<OwnedFd> {
        fcntl_dupfd_cloexec(&self.file, 0).map_err(Error::kernel("dup", Memfd::NAME))
    }

    fn reopen(&self, flags: OFlags) -> Result<OwnedFd> {
        reopen(self.file.as_fd(), flags).map_err(Error::kernel("open", Memfd::NAME))
    }
}

impl MemfdInode {
    /// The inode, made if it is not yet.
    fn made<'cx>(self: &Rc<Self>, cx: &'cx mut CreateCx<'_>) -> Result<&'cx mut MadeInode> {
        if !cx.stash::<Made>().0.contains_key(&self.id) {
            let file = self.attributes.create(cx)?;
            let made = MadeInode { file, inode: Rc::clone(self), taken: false };
            cx.stash::<Made>().0.insert(self.id, made);
        }
        Ok(cx.stash::<Made>().0.get_mut(&self.id).expect("it was just made"))
    }
}

/// A descriptor, for reading and writing, of the memfd that has the contents
/// with this number, if there is one: shared anonymous memory that a program
/// has both mapped and open as a file is one object.
///
/// # Errors
/// It cannot be made.
pub fn shared_object(shmid: u32, cx: &mut CreateCx<'_>) -> Result<Option<OwnedFd>> {
    let memfd = cx.files().iter().find_map(|(_, file)| match file {
        File::Memfd(memfd) if memfd.inode.attributes.shmid == shmid => Some(memfd),
        _ => None,
    });
    memfd.map(|memfd| memfd.inode.made(cx)?.original()).transpose()
}

impl Memfd {
    /// See [`File::inherit_key`](super::File::inherit_key).
    pub(super) fn inherit_key(&self) -> Option<String> {
        let name = std::str::from_utf8(&self.inode.attributes.name).ok()?;
        Some(format!("/memfd:{name}"))
    }
}

impl FileKind for Memfd {
    const NAME: &'static str = "memfd";
    const TYPE: FdType = FdType::MemFd;
    const RANKS: &'static [FillRank] = &[];

    fn claims(probe: &Probe) -> bool {
        probe.file_type() == FileType::RegularFile
            && matches!(probe.file_system, FsMagic::TMPFS | FsMagic::HUGETLB)
            && !probe.mounted
            && probe.is_memfd_link()
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let key = (probe.stat.st_dev, probe.stat.st_ino);
        let known = cx.part::<Collected>().0.get(&key).map(Rc::clone);
        let inode = match known {
            Some(inode) => inode,
            None => {
                let id = InodeId::from_raw(cx.fresh_inode());
                let attributes = Attributes::collect(cx, probe)?;
                let inode = Rc::new(MemfdInode { id, attributes, users: RefCell::default() });
                cx.part::<Collected>().0.insert(key, Rc::clone(&inode));
                inode
            }
        };
        let offset = u64::try_from(probe.info.pos).unwrap_or(0);
        Ok(Self { status, offset, inode })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, offset, inode } = self;
        let MemfdInode { id: inode_id, attributes, users: _ } = &**inode;
        let inodes = &mut images.part::<Sink>().0;
        inodes.entry(*inode_id).or_insert_with(|| attributes.entry(*inode_id));
        let (flags, fown) = status.encode();
        let memfd = MemfdFileEntry {
            id: id.as_raw(),
            flags,
            pos: *offset,
            fown,
            inode_id: inode_id.as_raw(),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            memfd: Some(Box::new(memfd)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(memfd) = entry.memfd.as_deref() else {
            return Err(wrong("it has no memfd_file_entry"));
        };
        let MemfdFileEntry { id: own_id, flags, pos, fown, inode_id } = memfd;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, *flags, fown)?;
        let inode = images.part::<Source>()?.0.get(&InodeId::from_raw(*inode_id)).map(Rc::clone);
        let inode = inode.ok_or_else(|| wrong("its inode is not there"))?;
        inode.users.borrow_mut().push(id);
        Ok(Self { status, offset: *pos, inode })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let Self { status, offset, inode } = self;
        let made = inode.made(cx)?;
        let flags = status.open_flags();
        let as_made = !status.is_path_only() && flags & OFlags::ACCMODE == OFlags::RDWR;
        let file = if as_made && !std::mem::replace(&mut made.taken, true) {
            made.original()?
        } else {
            made.reopen(flags)?
        };
        status.apply(Self::NAME, file.as_fd())?;
        if *offset > 0 && !status.is_path_only() {
            seek(&file, SeekFrom::Start(*offset)).map_err(Error::kernel("lseek", Self::NAME))?;
        }
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        Some(self)
    }

    fn fill(_: FillRank, _: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        Ok(())
    }
}

impl Inode for Memfd {
    fn open(&self, _: FileId, flags: OFlags, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let made = self.inode.made(cx)?;
        // Another description for writing would keep the memfd from being
        // executed as long as it is mapped.
        if flags & (OFlags::ACCMODE | OFlags::PATH) == OFlags::RDWR {
            return made.original();
        }
        made.reopen(flags)
    }
}
