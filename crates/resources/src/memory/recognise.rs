//! Recognising mappings: from the lines of smaps to [`Vma`]s.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use dormouse_kernel::pagemap::Pagemap;
use dormouse_kernel::proc::{Entry, Perms, ProcDir, Smap, VmFlags, VmaName};
use dormouse_kernel::shm::SegmentId;
use dormouse_kernel::{AddrRange, DeviceId, HostPid, PAGE_SIZE};

use super::aio;
use super::error::{Error, Result};
use super::obstacle::Obstacle;
use super::ring;
use super::shared::SharedObjects;
use super::survey::{Population, StoredPages, sort_out, survey};
use super::userfaults::Watched;
use super::vma::{
    Access, Advice, Backing, FileRange, HugePages, Lock, MappedFile, ProtFlags, RING, Traits, Vma,
    is_socket,
};
use super::walked::Walked;
use crate::file::FileId;
use crate::userfault::Registered;

/// The mappings of a tree, process by process. What several processes map is
/// looked up once.
#[derive(Debug)]
pub struct Mappings {
    uprobes: Uprobes,
    files: HashMap<FileKey, FileId>,
    open: HashSet<(DeviceId, u64)>,
    objects: SharedObjects,
    /// The IPC namespace whose segments this process sees.
    ipc: OsString,
}

/// The address space of a stopped process.
#[derive(Clone, Debug)]
pub struct Enumerated {
    /// All mappings, in ascending order; for [`Mm`](super::Mm).
    pub vmas: Vec<Vma>,
    /// Guard pages; for [`Mm`](super::Mm).
    pub guards: Vec<AddrRange>,
    /// What is to be stored; for [`PageDump`](super::PageDump).
    pub pages: StoredPages,
    /// What is registered with userfaultfds.
    pub registered: Vec<Registered>,
}

/// What to do with the page the kernel maps into a program to run it with
/// uprobes set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uprobes {
    /// The program cannot be checkpointed.
    Refuse,
    /// The page is left out: restored, the program has no probes.
    LeaveOut,
}

/// The mappings of one file stand together and share the path.
type FileKey = (DeviceId, u64, Arc<Path>, Access);

impl Mappings {
    /// None so far.
    #[must_use]
    pub fn new(objects: SharedObjects, uprobes: Uprobes) -> Self {
        // Without it, segments cannot be looked up.
        let ipc = ProcDir::of_self().and_then(|own| own.link(IPC)).unwrap_or_default();
        Self { uprobes, files: HashMap::new(), open: HashSet::new(), objects, ipc }
    }

    /// Names the inodes that tasks have open. Shared anonymous memory that is
    /// open, through `map_files`, is one file with what is open.
    #[must_use]
    pub fn with_open(mut self, inodes: impl IntoIterator<Item = (DeviceId, u64)>) -> Self {
        self.open.extend(inodes.into_iter().filter(|(device, _)| *device == self.objects.device()));
        self
    }

    /// Looks at the address space of a stopped process, given what walks through its page tables have told. `resolve` is asked for
    /// the id of a mapped file when the file turns up for the first time in
    /// the tree.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a mapping that cannot be carried over, what
    /// `resolve` says, and failures of `/proc`.
    pub fn enumerate<E: From<Error>>(
        &mut self,
        proc: &ProcDir,
        walked: Walked,
        mut resolve: impl FnMut(&MappedFile<'_>) -> Result<FileId, E>,
    ) -> Result<Enumerated, E> {
        let pid = proc.pid();
        let Walked { smaps, pages } = walked;
        let mut vmas: Vec<Vma> = Vec::with_capacity(smaps.len());
        let mut populations = Vec::with_capacity(smaps.len());
        let mut watched = Vec::new();
        for smap in &smaps {
            let is_open = self.open.contains(&(smap.vma.device, smap.vma.inode));
            let kind = Kind::of(smap, self.objects.device(), is_open)
                .and_then(|kind| check(kind, smap).map(|()| kind))
                .map_err(|obstacle| unsupported(pid, smap, obstacle))?;
            let backing = match kind {
                Kind::Uprobes if self.uprobes == Uprobes::LeaveOut => continue,
                Kind::Uprobes => return Err(unsupported(pid, smap, Obstacle::Uprobes).into()),
                Kind::Anonymous { heap } => Backing::Anonymous { heap },
                Kind::Droppable => Backing::Droppable,
                Kind::Vdso => Backing::Vdso,
                Kind::Vvar => Backing::Vvar,
                Kind::Vsyscall => Backing::Vsyscall,
                Kind::AioRing if smap.vma.offset == 0 && smap.vma.perms.contains(Perms::SHARED) => {
                    Backing::AioRing { requests: aio::UNKNOWN }
                }
                Kind::AioRing => return Err(unsupported(pid, smap, Obstacle::AioForeign).into()),
                Kind::IoUring => {
                    let (device, inode) = (smap.vma.device, smap.vma.inode);
                    let (range, access, memfd) = (smap.vma.range, Access::ReadWrite, false);
                    let offset = smap.vma.offset;
                    if !ring::is_offset(offset) {
                        return Err(unsupported(pid, smap, Obstacle::PartOfRing).into());
                    }
                    let path = Path::new(RING);
                    let ring = MappedFile { device, inode, path, range, access, memfd };
                    Backing::Ring { file: resolve(&ring)?, offset }
                }
                Kind::Socket { name } => {
                    let (device, inode) = (smap.vma.device, smap.vma.inode);
                    let (range, access) = (smap.vma.range, Access::ReadWrite);
                    // The kernel maps rings as a whole only.
                    if smap.vma.offset != 0 {
                        return Err(unsupported(pid, smap, Obstacle::PartOfSocket).into());
                    }
                    let path = Path::new(name);
                    let socket = MappedFile { device, inode, path, range, access, memfd: false };
                    let file = resolve(&socket)?;
                    let private = !smap.vma.perms.contains(Perms::SHARED);
                    let access = if private { Access::ReadOnly } else { access };
                    let file = FileRange { file, access, offset: 0, memfd: false, socket: true };
                    Backing::File { file, private }
                }
                Kind::SharedMemory => Backing::SharedMemory {
                    object: self.objects.mapped(&smap.vma, pid),
                    offset: smap.vma.offset,
                },
                Kind::Segment { id, path } => {
                    if proc.link(IPC).map_err(Error::from)? != self.ipc {
                        return Err(unsupported(pid, smap, Obstacle::ForeignSegment).into());
                    }
                    let segment = self.objects.attached((id, path), pid, smap.vma.range)?;
                    let (offset, len) = (smap.vma.offset, smap.vma.range.len());
                    if offset.saturating_add(len) > segment.size().next_multiple_of(PAGE_SIZE) {
                        return Err(unsupported(pid, smap, Obstacle::BeyondSegment).into());
                    }
                    Backing::Segment { segment: id, offset, access: access(smap.flags, false) }
                }
                Kind::File { path, memfd } => {
                    let access = access(smap.flags, memfd);
                    let key = (smap.vma.device, smap.vma.inode, Arc::clone(path), access);
                    let file = match self.files.get(&key) {
                        Some(&file) => file,
                        None => {
                            let (device, inode) = (smap.vma.device, smap.vma.inode);
                            let range = smap.vma.range;
                            let file = MappedFile { device, inode, path, range, access, memfd };
                            *self.files.entry(key).or_insert(resolve(&file)?)
                        }
                    };
                    let offset = smap.vma.offset;
                    Backing::File {
                        file: FileRange { file, access, offset, memfd, socket: false },
                        private: !smap.vma.perms.contains(Perms::SHARED),
                    }
                }
            };
            let vma = Vma {
                range: smap.vma.range,
                prot: prot(smap.vma.perms),
                backing,
                traits: traits(smap.flags),
                advice: advice(smap.flags),
                lock: lock(smap.flags),
                name: match &smap.vma.name {
                    VmaName::Anon(name) | VmaName::AnonShmem(name) => Some(Arc::clone(name)),
                    _ => None,
                },
                huge: match smap.flags.contains(VmFlags::HUGETLB) {
                    true => HugePages::of_size(smap.page_size),
                    false => None,
                },
            };
            if let Some(own) = Watched::of(smap, vmas.len()) {
                if let Some(obstacle) = own.obstacle(&vma) {
                    return Err(unsupported(pid, smap, obstacle).into());
                }
                if own.misses_pages() && vma.is_shared_memory() {
                    self.objects.keep_zeros(&smap.vma);
                }
                watched.push((own, smap));
            }
            match vmas.last_mut() {
                // The parts of vvar have names of their own, but belong together.
                Some(last)
                    if vma.backing == Backing::Vvar
                        && last.backing == Backing::Vvar
                        && last.range.end() == vma.range.start() =>
                {
                    last.range =
                        AddrRange::new(last.range.start(), vma.range.end()).expect("smaps ascends");
                }
                _ => {
                    vmas.push(vma);
                    populations.push(Population::of(smap));
                }
            }
        }
        let (mut pages, guards) = match pages {
            Some(pages) => sort_out(&vmas, &populations, &pages),
            None => {
                let pagemap = Pagemap::open(proc).map_err(Error::from)?;
                survey(&pagemap, &vmas, &populations)?
            }
        };
        let mut registered = Vec::with_capacity(watched.len());
        if !watched.is_empty() {
            let pagemap = Pagemap::open(proc).map_err(Error::from)?;
            let mut own_runs = Vec::new();
            for (own, smap) in watched {
                let vma = &vmas[own.number];
                let traits = populations[own.number].traits_where_all_counts(vma);
                let (found, runs) = own
                    .survey(&pagemap, vma, traits)?
                    .map_err(|obstacle| unsupported(pid, smap, obstacle))?;
                registered.push(found);
                own_runs.extend(runs);
            }
            let ranges: Vec<_> = registered.iter().map(|own| own.range).collect();
            pages.replace(&ranges, own_runs);
        }
        Ok(Enumerated { vmas, guards, pages, registered })
    }

    /// The shared memory objects seen so far.
    #[must_use]
    pub fn objects(&mut self) -> &mut SharedObjects {
        &mut self.objects
    }

    /// The shared memory objects, when all processes are enumerated.
    #[must_use]
    pub fn into_objects(self) -> SharedObjects {
        self.objects
    }
}

/// The IPC namespace of a process.
const IPC: Entry = Entry::Named("ns/ipc");

/// What is mapped, before anything is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'a> {
    Anonymous { heap: bool },
    Droppable,
    SharedMemory,
    Segment { id: SegmentId, path: &'a Path },
    File { path: &'a Arc<Path>, memfd: bool },
    Vdso,
    Vvar,
    Vsyscall,
    Uprobes,
    AioRing,
    IoUring,
    Socket { name: &'a OsStr },
}

impl<'a> Kind<'a> {
    /// `shmem` is the device of the kernel's own tmpfs, in which shared
    /// anonymous memory, memfds and System V segments are unlinked files.
    /// Names of files elsewhere cannot be taken for theirs.
    fn of(smap: &'a Smap, shmem: DeviceId, is_open: bool) -> Result<Self, Obstacle> {
        let shared = smap.vma.perms.contains(Perms::SHARED);
        Ok(match &smap.vma.name {
            VmaName::Path(path) if smap.flags.contains(VmFlags::HUGETLB) => {
                match path.as_os_str().as_bytes() {
                    b"/anon_hugepage (deleted)" if shared => Self::SharedMemory,
                    b"/anon_hugepage (deleted)" => Self::Anonymous { heap: false },
                    name if name.starts_with(b"/SYSV") => return Err(Obstacle::HugeSegment),
                    name => Self::File { path, memfd: name.starts_with(b"/memfd:") },
                }
            }
            VmaName::Heap => Self::Anonymous { heap: true },
            VmaName::None | VmaName::Stack | VmaName::Anon(_) if !shared => {
                if smap.flags.contains(VmFlags::DROPPABLE) {
                    Self::Droppable
                } else {
                    Self::Anonymous { heap: false }
                }
            }
            VmaName::Vdso => Self::Vdso,
            VmaName::Vvar | VmaName::VvarVclock => Self::Vvar,
            VmaName::Vsyscall => Self::Vsyscall,
            VmaName::Uprobes => Self::Uprobes,
            VmaName::AnonShmem(_) if is_open => return Err(Obstacle::NamedOpen),
            VmaName::AnonShmem(_) if shared => Self::SharedMemory,
            VmaName::AnonShmem(_) => return Err(Obstacle::PrivateShared),
            VmaName::Path(path) if smap.vma.device == shmem => {
                let name = path.as_os_str().as_bytes();
                if name.starts_with(b"/memfd:") {
                    Self::File { path, memfd: true }
                } else if name.starts_with(b"/SYSV") {
                    let id = u32::try_from(smap.vma.inode).ok().and_then(SegmentId::from_raw);
                    Self::Segment { id: id.ok_or(Obstacle::Unknown)?, path }
                } else if name != b"/dev/zero (deleted)" {
                    return Err(Obstacle::Device);
                } else if is_open {
                    Self::File { path, memfd: true }
                } else if shared {
                    Self::SharedMemory
                } else {
                    return Err(Obstacle::PrivateShared);
                }
            }
            VmaName::Path(path) => match path.as_os_str().as_bytes() {
                b"/[aio] (deleted)" if smap.vma.device.major == 0 => Self::AioRing,
                b"/secretmem (deleted)" if smap.vma.device.major == 0 => {
                    return Err(Obstacle::Secret);
                }
                _ => Self::File { path, memfd: false },
            },
            VmaName::Other(name) if name.as_bytes() == RING.as_bytes() && shared => Self::IoUring,
            VmaName::Other(name) if is_socket(name) => Self::Socket { name },
            VmaName::None | VmaName::Stack | VmaName::Anon(_) | VmaName::Other(_) => {
                return Err(Obstacle::Unknown);
            }
        })
    }
}

/// What speaks against a mapping whatever its kind.
fn check(kind: Kind<'_>, smap: &Smap) -> Result<(), Obstacle> {
    let has = |flags| smap.flags.intersects(flags);
    let special = matches!(kind, Kind::Vdso | Kind::Vvar | Kind::Vsyscall | Kind::Uprobes);
    if has(VmFlags::UNKNOWN) {
        Err(Obstacle::UnknownFlag)
    } else if has(VmFlags::SEALED) && special {
        Err(Obstacle::SealedSpecial)
    } else if has(VmFlags::IO | VmFlags::PFN_MAP) && !special {
        Err(Obstacle::Device)
    } else if has(VmFlags::SHADOW_STACK) {
        Err(Obstacle::ShadowStack)
    } else if has(VmFlags::SYNC) {
        Err(Obstacle::Sync)
    } else if has(VmFlags::BTI | VmFlags::MTE) {
        // Of another architecture than those dormouse runs on.
        Err(Obstacle::UnknownFlag)
    } else if smap.protection_key.is_some_and(|key| key != 0)
        // The kernel takes a key of its own for memory that may be run but not read.
        && smap.vma.perms != Perms::EXEC
    {
        Err(Obstacle::ProtectionKey)
    } else {
        Ok(())
    }
}

fn unsupported(pid: HostPid, smap: &Smap, obstacle: Obstacle) -> Error {
    let name = match &smap.vma.name {
        VmaName::None => OsString::from("anonymous"),
        VmaName::Path(path) => path.as_os_str().to_owned(),
        VmaName::Heap => "[heap]".into(),
        VmaName::Stack => "[stack]".into(),
        VmaName::Vdso => "[vdso]".into(),
        VmaName::Vvar => "[vvar]".into(),
        VmaName::VvarVclock => "[vvar_vclock]".into(),
        VmaName::Vsyscall => "[vsyscall]".into(),
        VmaName::Uprobes => "[uprobes]".into(),
        VmaName::Anon(name) | VmaName::AnonShmem(name) | VmaName::Other(name) => {
            OsStr::to_os_string(name)
        }
    };
    Error::Unsupported { pid, range: smap.vma.range, name, obstacle }
}

/// A shared mapping may be made writable only of a file open for writing (`do_mmap` in `mm/mmap.c`),
/// if that is not sealed (`check_write_seal` in `mm/memfd.c`); of a private one it does not matter.
fn access(flags: VmFlags, memfd: bool) -> Access {
    if flags.contains(VmFlags::MAY_SHARE | VmFlags::MAY_WRITE) {
        Access::ReadWrite
    } else if memfd && flags.contains(VmFlags::MAY_SHARE | VmFlags::SHARED) {
        Access::Sealed
    } else {
        Access::ReadOnly
    }
}

fn prot(perms: Perms) -> ProtFlags {
    translate(
        perms,
        &[
            (Perms::READ, ProtFlags::READ),
            (Perms::WRITE, ProtFlags::WRITE),
            (Perms::EXEC, ProtFlags::EXEC),
        ],
        Perms::contains,
    )
}

fn traits(flags: VmFlags) -> Traits {
    translate(
        flags,
        &[
            (VmFlags::GROWS_DOWN, Traits::GROWS_DOWN),
            (VmFlags::NO_RESERVE, Traits::NO_RESERVE),
            (VmFlags::ACCOUNT, Traits::ACCOUNTED),
            (VmFlags::SEALED, Traits::SEALED),
            (VmFlags::UFFD_MISSING, Traits::USERFAULT),
            (VmFlags::UFFD_WP, Traits::USERFAULT),
            (VmFlags::UFFD_MINOR, Traits::USERFAULT),
        ],
        VmFlags::contains,
    )
}

fn advice(flags: VmFlags) -> Advice {
    translate(
        flags,
        &[
            (VmFlags::RANDOM_READ, Advice::RANDOM),
            (VmFlags::SEQUENTIAL_READ, Advice::SEQUENTIAL),
            (VmFlags::DONT_COPY, Advice::DONT_FORK),
            (VmFlags::MERGEABLE, Advice::MERGEABLE),
            (VmFlags::HUGE_PAGE, Advice::HUGE_PAGE),
            (VmFlags::NO_HUGE_PAGE, Advice::NO_HUGE_PAGE),
            (VmFlags::DONT_DUMP, Advice::DONT_DUMP),
            (VmFlags::WIPE_ON_FORK, Advice::WIPE_ON_FORK),
        ],
        VmFlags::contains,
    )
}

fn lock(flags: VmFlags) -> Lock {
    match (flags.contains(VmFlags::LOCKED), flags.contains(VmFlags::LOCK_ON_FAULT)) {
        (false, _) => Lock::None,
        (true, false) => Lock::All,
        (true, true) => Lock::OnFault,
    }
}

fn translate<F: Copy, T: bitflags::Flags>(
    from: F,
    table: &[(F, T)],
    contains: impl Fn(&F, F) -> bool,
) -> T {
    let mut to = T::empty();
    for (flag, meaning) in table {
        if contains(&from, *flag) {
            to.insert(T::from_bits_retain(meaning.bits()));
        }
    }
    to
}

#[cfg(test)]
mod tests;
