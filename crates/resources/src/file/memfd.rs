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
//! Fill: nothing; seals are set when everything is mapped and written.
//! Not preserved: times of the inode; that shared anonymous memory was none.
//! Scenarios: `crates/resources/tests`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use dormouse_image::proto::files::memfd::{MemfdFileEntry, MemfdInodeEntry};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use rustix::fs::{
    FileType, Gid, MemfdFlags, Mode, OFlags, SealFlags, SeekFrom, Uid, fchmod, fchown,
    fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create, seek,
};
use rustix::io::fcntl_dupfd_cloexec;

use super::files::{Milestone, Stash};
use super::probe::reopen;
use super::sink::SinkPart;
use super::source::SourcePart;
use super::{
    CollectCx, CreateCx, Created, File, FileId, FileKind, FillCx, FillRank, FsMagic, ImageSink,
    ImageSource, Inode, InodeId, Probe, Status,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

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

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attributes {
    /// As given to `memfd_create(2)`.
    name: Vec<u8>,
    uid: u32,
    gid: u32,
    /// `None` in images of old versions of CRIU.
    mode: Option<u32>,
    /// In bytes.
    size: u64,
    /// The number of its contents.
    shmid: u32,
    seals: SealFlags,
    /// The size of its pages, if they are huge.
    huge_pages: Option<HugePages>,
}

/// The logarithm of the size of a huge page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HugePages(u32);

impl HugePages {
    /// `MFD_HUGE_SHIFT`.
    const SHIFT: u32 = 26;

    /// `MFD_HUGETLB` and `MFD_HUGE_*`.
    fn flags(self) -> MemfdFlags {
        MemfdFlags::HUGETLB | MemfdFlags::from_bits_retain(self.0 << Self::SHIFT)
    }

    /// From the same. Without a size it is the system's default.
    fn from_flags(raw: u32) -> Option<Self> {
        let size = raw >> Self::SHIFT;
        (Self(size).flags().bits() == raw).then_some(Self(size))
    }
}

/// The longest name there is, in bytes (`MFD_NAME_MAX_LEN`, `mm/memfd.c`).
const MAX_NAME: usize = 249;

/// The seals of a memfd that was made without `MFD_ALLOW_SEALING`.
const UNSEALABLE: SealFlags = SealFlags::SEAL;

impl Attributes {
    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let file = probe.reopen(OFlags::RDONLY)?;
        let seals = fcntl_get_seals(&file).map_err(Error::kernel("F_GET_SEALS", &probe.link))?;
        let link = probe.link.as_os_str().as_bytes();
        let name = link.strip_suffix(b" (deleted)").unwrap_or(link);
        let name = name.strip_prefix(b"/memfd:").unwrap_or(name).to_vec();
        let huge_pages = (probe.file_system == FsMagic::HUGETLB)
            .then(|| HugePages(u64::try_from(probe.stat.st_blksize).unwrap_or(1).ilog2()));
        Ok(Self {
            name,
            uid: probe.stat.st_uid,
            gid: probe.stat.st_gid,
            mode: Some(probe.stat.st_mode),
            size: u64::try_from(probe.stat.st_size).unwrap_or(0),
            shmid: cx.shared.save(file)?,
            seals,
            huge_pages,
        })
    }

    fn entry(&self, id: InodeId) -> MemfdInodeEntry {
        let Self { name, uid, gid, mode, size, shmid, seals, huge_pages } = self;
        MemfdInodeEntry {
            name: name.clone(),
            uid: *uid,
            gid: *gid,
            size: *size,
            shmid: *shmid,
            seals: seals.bits(),
            inode_id: id.as_raw().into(),
            hugetlb_flag: huge_pages.map(|pages| pages.flags().bits()),
            mode: *mode,
        }
    }

    fn decode(entry: &MemfdInodeEntry) -> Result<Self, &'static str> {
        let MemfdInodeEntry { name, uid, gid, size, shmid, seals, hugetlb_flag, mode, .. } = entry;
        if name.len() > MAX_NAME || name.contains(&0) {
            return Err("its name is none");
        }
        if mode.is_some_and(|mode| FileType::from_raw_mode(mode) != FileType::RegularFile) {
            return Err("its mode is not of a regular file");
        }
        let known = SealFlags::SEAL
            | SealFlags::SHRINK
            | SealFlags::GROW
            | SealFlags::WRITE
            | SealFlags::FUTURE_WRITE
            | SealFlags::EXEC;
        let seals = SealFlags::from_bits_retain(*seals);
        if !known.contains(seals) {
            return Err("it has seals that are not known");
        }
        let huge_pages = match *hugetlb_flag {
            None => None,
            Some(raw) => Some(HugePages::from_flags(raw).ok_or("its size of pages is none")?),
        };
        if i64::try_from(*size).is_err() {
            return Err("its size is none");
        }
        let (name, uid, gid) = (name.clone(), *uid, *gid);
        Ok(Self { name, uid, gid, mode: *mode, size: *size, shmid: *shmid, seals, huge_pages })
    }

    /// Makes the inode, with its contents, not sealed yet.
    fn create(&self, cx: &CreateCx<'_>) -> Result<OwnedFd> {
        let mut flags = MemfdFlags::CLOEXEC;
        if self.seals != UNSEALABLE {
            flags |= MemfdFlags::ALLOW_SEALING;
        }
        if let Some(huge_pages) = self.huge_pages {
            flags |= huge_pages.flags();
        }
        let failed = |call| Error::kernel(call, Memfd::NAME);
        let file = memfd_create(&self.name[..], flags).map_err(failed("memfd_create"))?;
        ftruncate(&file, self.size).map_err(failed("ftruncate"))?;
        if self.size > 0 {
            cx.shared.load(self.shmid, file.as_fd(), self.size)?;
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        fchown(&file, Some(uid), Some(gid)).map_err(failed("fchown"))?;
        if let Some(mode) = self.mode {
            fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("fchmod"))?;
        }
        Ok(file)
    }

    /// The seals that are still to be set.
    fn missing_seals(&self) -> SealFlags {
        if self.seals == UNSEALABLE { SealFlags::empty() } else { self.seals }
    }
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
    /// How many descriptions are still to be created.
    waiting: usize,
    /// Whether it is mapped.
    mapped: bool,
}

impl Stash for Made {
    fn reached(&mut self, milestone: Milestone) -> Result<()> {
        match milestone {
            Milestone::Created => self.0.retain(|_, made| made.is_kept()),
            Milestone::Mapped => {
                for made in std::mem::take(&mut self.0).into_values() {
                    let seals = made.inode.attributes.missing_seals();
                    if !seals.is_empty() {
                        fcntl_add_seals(&made.file, seals)
                            .map_err(Error::kernel("F_ADD_SEALS", Memfd::NAME))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl MadeInode {
    /// Whether it is needed even if all descriptions exist.
    fn is_kept(&self) -> bool {
        self.mapped || !self.inode.attributes.missing_seals().is_empty()
    }

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
            let files = cx.files();
            let users = self.users.borrow();
            let waiting = users.iter().filter(|&&user| files.is_described(user)).count();
            let mapped = users.iter().any(|&user| files.is_opened(user));
            let inode = Rc::clone(self);
            let made = MadeInode { file, inode, taken: false, waiting, mapped };
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
        made.waiting = made.waiting.saturating_sub(1);
        if made.waiting == 0 && !made.is_kept() {
            cx.stash::<Made>().0.remove(&inode.id);
        }
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
