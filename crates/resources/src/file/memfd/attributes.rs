//! The inode of a memfd: what is known of it, and making it anew.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use dormouse_image::proto::files::memfd::MemfdInodeEntry;
use rustix::fs::{
    FileType, Gid, MemfdFlags, Mode, SealFlags, Uid, fchmod, fchown, fcntl_add_seals,
    fcntl_get_seals, ftruncate, memfd_create,
};

use super::Memfd;
use super::allocated::Allocated;
use crate::file::extended::Extended;
use crate::file::times::Times;
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
    /// `None` in images of CRIU.
    times: Option<Times>,
    extended: Extended,
    allocated: Allocated,
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
        let file = probe.reopen_unseen()?;
        let seals = fcntl_get_seals(&file).map_err(Error::kernel("F_GET_SEALS", &probe.link))?;
        let link = probe.link.as_os_str().as_bytes();
        let name = link.strip_suffix(b" (deleted)").unwrap_or(link);
        let name = name.strip_prefix(b"/memfd:").unwrap_or(name).to_vec();
        let huge_pages = (probe.file_system == FsMagic::HUGETLB)
            .then(|| HugePages(u64::try_from(probe.stat.st_blksize).unwrap_or(1).ilog2()));
        let extended = Extended::collect(file.as_fd(), ("a memfd", &probe.link))?;
        let allocated = match huge_pages {
            None => Allocated::collect(file.as_fd(), &probe.stat)?,
            // What is allocated of those counts as written.
            Some(_) => Allocated::default(),
        };
        Ok(Self {
            name,
            uid: probe.stat.st_uid,
            gid: probe.stat.st_gid,
            mode: Some(probe.stat.st_mode),
            size: u64::try_from(probe.stat.st_size).unwrap_or(0),
            shmid: cx.shared.save(file)?,
            seals,
            huge_pages,
            times: Some(Times::of(&probe.stat)),
            extended,
            allocated,
        })
    }

    pub(super) fn entry(&self, id: InodeId) -> MemfdInodeEntry {
        let Self {
            name,
            uid,
            gid,
            mode,
            size,
            shmid,
            seals,
            huge_pages,
            times,
            extended,
            allocated,
        } = self;
        let ((atim, atim_nsec), (mtim, mtim_nsec)) =
            times.map_or_else(Default::default, Times::entries);
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
            atim,
            mtim,
            atim_nsec,
            mtim_nsec,
            xattrs: extended.encode(),
            allocated: allocated.entries(),
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
        let MemfdInodeEntry { atim, mtim, atim_nsec, mtim_nsec, xattrs, allocated, .. } = entry;
        let times = match (atim, mtim) {
            (None, None) => None,
            _ => Some(Times::decode((atim.clone(), *atim_nsec), (mtim.clone(), *mtim_nsec))?),
        };
        Ok(Self {
            name: name.clone(),
            uid: *uid,
            gid: *gid,
            mode: *mode,
            size: *size,
            shmid: *shmid,
            seals,
            huge_pages,
            times,
            extended: Extended::decode(xattrs.clone())?,
            allocated: Allocated::decode(allocated)?,
        })
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
        self.allocated.apply(file.as_fd())?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        fchown(&file, Some(uid), Some(gid)).map_err(failed("fchown"))?;
        if let Some(mode) = self.mode {
            fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("fchmod"))?;
        }
        // After the owner, with whom some of them change.
        self.extended.apply(file.as_fd())?;
        Ok(file)
    }

    /// Sets what must wait until everything is mapped and written: to map it is to access it.
    pub(super) fn finish(&self, file: BorrowedFd<'_>) -> Result<()> {
        if let Some(times) = self.times {
            times.set(file, Memfd::NAME)?;
        }
        if self.seals != UNSEALABLE && !self.seals.is_empty() {
            fcntl_add_seals(file, self.seals).map_err(Error::kernel("F_ADD_SEALS", Memfd::NAME))?;
        }
        Ok(())
    }
}
