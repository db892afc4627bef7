//! The inode of a memfd: what is known of it, and making it anew.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use dormouse_image::proto::files::memfd::MemfdInodeEntry;
use rustix::fs::{
    FileType, Gid, MemfdFlags, Mode, OFlags, SealFlags, Uid, fchmod, fchown, fcntl_get_seals,
    ftruncate, memfd_create,
};

use super::Memfd;
use crate::file::{CollectCx, CreateCx, FileKind, FsMagic, InodeId, Probe};
use crate::{Error, Result};

/// What the kernel tells of the inode, and will again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    /// As given to `memfd_create(2)`.
    pub(super) name: Vec<u8>,
    uid: u32,
    gid: u32,
    /// `None` in images of old versions of CRIU.
    mode: Option<u32>,
    /// In bytes.
    size: u64,
    /// The number of its contents.
    pub(super) shmid: u32,
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
    pub(super) fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
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

    pub(super) fn entry(&self, id: InodeId) -> MemfdInodeEntry {
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

    pub(super) fn decode(entry: &MemfdInodeEntry) -> Result<Self, &'static str> {
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
    pub(super) fn create(&self, cx: &CreateCx<'_>) -> Result<OwnedFd> {
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
    pub(super) fn missing_seals(&self) -> SealFlags {
        if self.seals == UNSEALABLE { SealFlags::empty() } else { self.seals }
    }
}
