//! [`Vma`]s and images.
//!
//! Facts of CRIU 4.2 (`criu/proc_parse.c`, `criu/mem.c`, `criu/pie/restorer.c`): `status` says
//! what is mapped; `flags` go to `mmap(2)`; `shmid` is a file id or the number of a shared memory
//! object; `madv` holds one bit for each `madvise(2)`; ranges of guard pages follow all mappings
//! as entries that are none.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use dormouse_image::proto::mm::VmaEntry;
use dormouse_image::proto::{vma_extra, vma_status};
use dormouse_kernel::shm::SegmentId;
use dormouse_kernel::{Addr, AddrRange, PAGE_SIZE};
use rustix::fs::OFlags;
use rustix::mm::MapFlags;

use super::aio;
use super::error::MappingProblem;
use super::ring;
use super::vma::{
    Access, Advice, Backing, FileRange, HugePages, Lock, ProtFlags, ShmemId, Traits, Vma,
};
use crate::file::FileId;

/// User memory ends here (x86-64 with page tables of five levels).
const USER_END: u64 = 1 << 56;

/// The only page of the kernel's half that a process sees.
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

/// `PR_SET_VMA_ANON_NAME` takes at most this many bytes (`ANON_VMA_NAME_MAX_LEN`), the final zero
/// among them.
const NAME_MAX: usize = 80;

impl Vma {
    /// The entry of `mm-PID.img`.
    #[must_use]
    pub fn encode(&self) -> VmaEntry {
        let Self { range, prot, backing, traits, advice, lock, name, huge } = self;
        let (status, sharing, pgoff, shmid, access) = match *backing {
            Backing::Anonymous { heap } => {
                let heap = if heap { vma_status::HEAP } else { 0 };
                (heap | vma_status::ANON_PRIVATE, ANON, 0, 0, None)
            }
            // Not `MAP_PRIVATE` at the same time: that is another type.
            Backing::Droppable => {
                (vma_status::ANON_PRIVATE, MapFlags::from_bits_retain(0x28), 0, 0, None)
            }
            Backing::Vdso => (vma_status::VDSO | vma_status::ANON_PRIVATE, ANON, 0, 0, None),
            Backing::Vvar => (vma_status::VVAR | vma_status::ANON_PRIVATE, ANON, 0, 0, None),
            Backing::Vsyscall => {
                (vma_status::VSYSCALL | vma_status::ANON_PRIVATE, ANON, 0, 0, None)
            }
            Backing::SharedMemory { object, offset } => {
                let flags = MapFlags::SHARED | MAP_ANONYMOUS;
                (vma_status::ANON_SHARED, flags, offset, object.as_raw(), Some(Access::ReadWrite))
            }
            Backing::Segment { segment, offset, access } => {
                let status = vma_status::SYSVIPC | vma_status::ANON_SHARED;
                (status, MapFlags::SHARED | MAP_ANONYMOUS, offset, segment.as_raw(), Some(access))
            }
            // Their number of requests is in an entry of its own.
            Backing::AioRing { requests: _ } => {
                (vma_status::AIO_RING, MapFlags::SHARED, 0, 0, None)
            }
            // A shared file to everybody else.
            Backing::Ring { file, offset } => {
                let (status, flags) = (vma_status::FILE_SHARED, MapFlags::SHARED);
                (status, flags, offset, file.as_raw(), Some(Access::ReadWrite))
            }
            Backing::File { file: FileRange { file, socket: true, .. }, private } => {
                let flags = if private { MapFlags::PRIVATE } else { MapFlags::SHARED };
                (vma_status::SOCKET, flags, 0, file.as_raw(), None)
            }
            Backing::File {
                file: FileRange { file, access, offset, memfd, socket: false },
                private,
            } => {
                let memfd = if memfd { vma_status::MEMFD } else { 0 };
                let (status, flags) = if private {
                    (vma_status::FILE_PRIVATE, MapFlags::PRIVATE)
                } else {
                    (vma_status::FILE_SHARED, MapFlags::SHARED)
                };
                // CRIU maps before it seals, so it has to make do with less.
                let access = if access == Access::Sealed { Access::ReadOnly } else { access };
                (memfd | status, flags, offset, file.as_raw(), Some(access))
            }
        };
        let regular = match backing {
            Backing::Vsyscall | Backing::AioRing { .. } => 0,
            _ => vma_status::REGULAR,
        };
        let mut flags = sharing;
        flags.set(MapFlags::GROWSDOWN, traits.contains(Traits::GROWS_DOWN));
        flags.set(MapFlags::NORESERVE, traits.contains(Traits::NO_RESERVE));
        flags.set(MapFlags::LOCKED, *lock != Lock::None);
        flags |= huge.map_or(MapFlags::empty(), HugePages::map_flags);
        let mut extra = 0;
        for (set, bit) in [
            (traits.contains(Traits::ACCOUNTED), vma_extra::ACCOUNTED),
            (traits.contains(Traits::SEALED), vma_extra::SEALED),
            (*lock == Lock::OnFault, vma_extra::LOCK_ON_FAULT),
            (self.is_ring(), vma_extra::IO_URING),
            (self.is_write_sealed(), vma_extra::WRITE_SEALED),
            (traits.contains(Traits::USERFAULT), vma_extra::USERFAULT),
        ] {
            extra |= if set { bit } else { 0 };
        }
        VmaEntry {
            start: range.start().as_raw(),
            end: range.end().as_raw(),
            pgoff,
            shmid: shmid.into(),
            prot: prot.bits(),
            flags: flags.bits(),
            status: regular | status,
            fd: -1,
            madv: (!advice.is_empty()).then_some(advice.bits()),
            fdflags: access.map(|access| access.open_flags().bits()),
            extra: Some(extra),
            name: name.as_ref().map(|name| name.as_bytes().to_vec()),
        }
    }

    /// Reads an entry back. `None` for one that describes no mapping that has to be made.
    ///
    /// # Errors
    ///
    /// The entry makes no sense, or needs a newer version.
    pub fn decode(entry: &VmaEntry) -> Result<Option<Self>, MappingProblem> {
        let VmaEntry {
            start,
            end,
            pgoff,
            shmid,
            prot,
            mut flags,
            status,
            fd: _,
            madv,
            fdflags,
            extra,
            ref name,
        } = *entry;
        if status == vma_status::UPROBES {
            return Ok(None);
        }
        let wrong_flags = MappingProblem::Flags(flags);
        let huge = HugePages::take(&mut flags).ok_or(wrong_flags)?;
        if huge.is_some() && status & (vma_status::ANON_PRIVATE | vma_status::ANON_SHARED) != 0 {
            // Which CRIU does not say of them.
            flags |= MAP_ANONYMOUS.bits();
        }
        let mut backing = backing(status, flags, pgoff, shmid, fdflags)?;
        if extra.is_some_and(|extra| extra & vma_extra::IO_URING != 0) {
            backing = match backing {
                Backing::File {
                    file: FileRange { file, offset, memfd: false, .. },
                    private: false,
                } if ring::is_offset(offset) => Backing::Ring { file, offset },
                _ => return Err(MappingProblem::Status(status)),
            };
        }
        if extra.is_some_and(|extra| extra & vma_extra::WRITE_SEALED != 0) {
            match &mut backing {
                Backing::File { file, private: false }
                    if file.memfd && prot & ProtFlags::WRITE.bits() == 0 =>
                {
                    file.access = Access::Sealed;
                }
                _ => return Err(MappingProblem::Status(status)),
            }
        }
        let range = AddrRange::new(Addr::from_raw(start), Addr::from_raw(end))
            .filter(|range| is_mapping(*range, &backing))
            .ok_or(MappingProblem::Bounds)?;
        if let Some(huge) = huge {
            let is_whole = |number: u64| number.is_multiple_of(huge.size());
            match backing {
                Backing::Anonymous { .. } | Backing::SharedMemory { .. } | Backing::File { .. } => {
                }
                _ => return Err(MappingProblem::Flags(entry.flags)),
            }
            if !is_whole(start) || !is_whole(end) {
                return Err(MappingProblem::Bounds);
            }
            if !is_whole(pgoff) {
                return Err(MappingProblem::Offset(pgoff));
            }
        }
        if pgoff % PAGE_SIZE != 0 || pgoff.checked_add(range.len()).is_none_or(|end| end >> 63 != 0)
        {
            return Err(MappingProblem::Offset(pgoff));
        }
        let map = MapFlags::from_bits_retain(flags);
        let private = !matches!(
            backing,
            Backing::SharedMemory { .. }
                | Backing::Segment { .. }
                | Backing::AioRing { .. }
                | Backing::Ring { .. }
                | Backing::File { private: false, .. }
        );
        let prot = ProtFlags::from_bits(prot)
            .filter(|prot| (ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC).contains(*prot))
            .ok_or(MappingProblem::Protection(prot))?;
        let writable = prot.contains(ProtFlags::WRITE);
        let mut traits = Traits::empty();
        traits.set(Traits::GROWS_DOWN, map.contains(MapFlags::GROWSDOWN));
        traits.set(Traits::NO_RESERVE, map.contains(MapFlags::NORESERVE));
        let mut lock = if map.contains(MapFlags::LOCKED) { Lock::All } else { Lock::None };
        if traits.contains(Traits::GROWS_DOWN) && !matches!(backing, Backing::Anonymous { .. }) {
            return Err(MappingProblem::Flags(flags));
        }
        match extra {
            Some(extra) => {
                traits.set(Traits::ACCOUNTED, extra & vma_extra::ACCOUNTED != 0);
                traits.set(Traits::SEALED, extra & vma_extra::SEALED != 0);
                traits.set(Traits::USERFAULT, extra & vma_extra::USERFAULT != 0);
                if extra & vma_extra::LOCK_ON_FAULT != 0 {
                    lock = Lock::OnFault;
                }
            }
            // CRIU does not know. What is writable counts; the rest may have been once.
            None => traits.set(
                Traits::ACCOUNTED,
                private && writable && !traits.contains(Traits::NO_RESERVE),
            ),
        }
        let advice = madv.unwrap_or(0);
        let advice = Advice::from_bits(advice).ok_or(MappingProblem::Advice(advice))?;
        let name = match name {
            None => None,
            Some(name) if is_name(name, &backing) => Some(Arc::from(OsStr::from_bytes(name))),
            Some(_) => return Err(MappingProblem::Name),
        };
        Ok(Some(Self { range, prot, backing, traits, advice, lock, name, huge }))
    }
}

const MAP_ANONYMOUS: MapFlags = MapFlags::from_bits_retain(0x20);
const MAP_DROPPABLE: MapFlags = MapFlags::from_bits_retain(0x08);
const ANON: MapFlags = MapFlags::PRIVATE.union(MAP_ANONYMOUS);

fn backing(
    status: u32,
    flags: u32,
    offset: u64,
    shmid: u64,
    fdflags: Option<u32>,
) -> Result<Backing, MappingProblem> {
    const KNOWN: u32 = (1 << 18) - 1;
    const UNSUPPORTED: u32 =
        vma_status::SHADOW_STACK | vma_status::GUARD | vma_status::UPROBES | vma_status::EXT_PLUGIN;
    // Bits that do not decide what is mapped.
    const INFORMATION: u32 = vma_status::REGULAR | vma_status::STACK | vma_status::HEAP;
    if status & !(KNOWN | vma_status::EXT_PLUGIN) != 0 {
        return Err(MappingProblem::Status(status));
    }
    if status & UNSUPPORTED != 0 {
        return Err(MappingProblem::Unsupported(status));
    }
    let number = || u32::try_from(shmid).map_err(|_| MappingProblem::Id(shmid));
    let heap = status & vma_status::HEAP != 0;
    const SEGMENT: u32 = vma_status::SYSVIPC | vma_status::ANON_SHARED;
    const FILE: u32 = vma_status::FILE_PRIVATE | vma_status::FILE_SHARED;
    let memfd = status & vma_status::MEMFD != 0;
    let map = MapFlags::from_bits_retain(flags);
    let sharing = map & (MapFlags::SHARED | MapFlags::PRIVATE | MAP_DROPPABLE);
    let anonymous = map.contains(MAP_ANONYMOUS);
    const LASTING: MapFlags =
        MapFlags::GROWSDOWN.union(MapFlags::NORESERVE).union(MapFlags::LOCKED);
    let known = sharing | MAP_ANONYMOUS | LASTING;
    if !known.contains(map) {
        return Err(MappingProblem::Flags(flags));
    }
    let backing = match status & !(INFORMATION | vma_status::MEMFD) {
        vma_status::ANON_PRIVATE if sharing == MAP_DROPPABLE => Backing::Droppable,
        vma_status::ANON_PRIVATE => Backing::Anonymous { heap },
        vma_status::ANON_SHARED => {
            Backing::SharedMemory { object: ShmemId::from_raw(number()?), offset }
        }
        SEGMENT => {
            let id = SegmentId::from_raw(number()?).ok_or(MappingProblem::Id(shmid))?;
            let access = fdflags.map_or(Access::ReadWrite, Access::from_open_flags);
            Backing::Segment { segment: id, offset, access }
        }
        kind @ (vma_status::FILE_PRIVATE | vma_status::FILE_SHARED) => {
            let private = kind == vma_status::FILE_PRIVATE;
            let access = match fdflags {
                // A private mapping reads the file only, however it was open.
                _ if private => Access::ReadOnly,
                Some(flags) => Access::from_open_flags(flags),
                // As old versions of CRIU wrote it.
                None => Access::ReadWrite,
            };
            let file = FileId::from_raw(number()?);
            Backing::File {
                file: FileRange { file, access, offset, memfd, socket: false },
                private,
            }
        }
        vma_status::SOCKET if offset == 0 => {
            let private = sharing == MapFlags::PRIVATE;
            let access = if private { Access::ReadOnly } else { Access::ReadWrite };
            let file = FileId::from_raw(number()?);
            let file = FileRange { file, access, offset, memfd: false, socket: true };
            Backing::File { file, private }
        }
        vma_status::AIO_RING if offset == 0 => Backing::AioRing { requests: aio::UNKNOWN },
        kind if kind & !vma_status::ANON_PRIVATE == vma_status::VDSO => Backing::Vdso,
        kind if kind & !vma_status::ANON_PRIVATE == vma_status::VVAR => Backing::Vvar,
        kind if kind & !vma_status::ANON_PRIVATE == vma_status::VSYSCALL => Backing::Vsyscall,
        _ => return Err(MappingProblem::Status(status)),
    };
    let fits = match backing {
        Backing::Droppable => anonymous,
        Backing::SharedMemory { .. } | Backing::Segment { .. } => {
            sharing == MapFlags::SHARED && anonymous
        }
        Backing::AioRing { .. } => sharing == MapFlags::SHARED && !anonymous,
        Backing::File { private, .. } => {
            let expected = if private { MapFlags::PRIVATE } else { MapFlags::SHARED };
            sharing == expected && !anonymous
        }
        _ => sharing == MapFlags::PRIVATE && anonymous,
    };
    if memfd && status & FILE == 0 {
        return Err(MappingProblem::Status(status));
    }
    if fits { Ok(backing) } else { Err(MappingProblem::Flags(flags)) }
}

fn is_mapping(range: AddrRange, backing: &Backing) -> bool {
    let end = if *backing == Backing::Vsyscall { VSYSCALL + PAGE_SIZE } else { USER_END };
    let start = if *backing == Backing::Vsyscall { VSYSCALL } else { 0 };
    range.start().is_page_aligned()
        && range.end().is_page_aligned()
        && !range.is_empty()
        && range.start().as_raw() >= start
        && range.end().as_raw() <= end
}

/// What `is_valid_name_char` in `kernel/sys.c` allows.
fn is_name(name: &[u8], backing: &Backing) -> bool {
    let allowed = |&byte: &u8| matches!(byte, 0x20..=0x7e) && !b"\\`$[]".contains(&byte);
    matches!(backing, Backing::Anonymous { .. } | Backing::SharedMemory { .. })
        && name.len() < NAME_MAX
        && name.iter().all(allowed)
}

impl Access {
    /// For `open(2)`.
    #[must_use]
    pub const fn open_flags(self) -> OFlags {
        match self {
            Self::ReadOnly => OFlags::RDONLY,
            Self::ReadWrite | Self::Sealed => OFlags::RDWR,
        }
    }

    fn from_open_flags(flags: u32) -> Self {
        if OFlags::from_bits_retain(flags) & OFlags::ACCMODE == OFlags::RDWR {
            Self::ReadWrite
        } else {
            Self::ReadOnly
        }
    }
}

/// The entry for a range of guard pages.
#[must_use]
pub(super) fn encode_guard(range: AddrRange) -> VmaEntry {
    VmaEntry {
        start: range.start().as_raw(),
        end: range.end().as_raw(),
        status: vma_status::GUARD,
        fd: -1,
        ..VmaEntry::default()
    }
}

/// Whether an entry stands for guard pages; then which.
pub(super) fn decode_guard(entry: &VmaEntry) -> Result<Option<AddrRange>, MappingProblem> {
    if entry.status != vma_status::GUARD {
        return Ok(None);
    }
    AddrRange::new(Addr::from_raw(entry.start), Addr::from_raw(entry.end))
        .filter(|range| is_mapping(*range, &Backing::Droppable))
        .map(Some)
        .ok_or(MappingProblem::Bounds)
}

#[cfg(test)]
mod tests;
