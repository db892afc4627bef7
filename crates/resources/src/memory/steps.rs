//! What a process does to its own mappings, call by call.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use dormouse_kernel::shm::SegmentId;
use dormouse_kernel::{Addr, AddrRange, FdNum, PAGE_SIZE};
use dormouse_puppet::{Arg, Batch, Perform};
use rustix::mm::MapFlags;

use super::error::{Error, Result};
use super::vma::{Access, Advice, Backing, FileRange, HugePages, ProtFlags, ShmemId, Traits, Vma};
use crate::file::FileId;

/// One system call that changes mappings, or a few that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MapStep {
    /// `munmap(2)`. There may be holes in the range.
    Unmap(AddrRange),
    /// `mmap(2)` of a mapping at its place, which is free: what it is, with what protection it has
    /// for now.
    Map(Vma),
    /// `shmat(2)` of a whole segment.
    Attach {
        /// Which.
        segment: SegmentId,
        /// Where.
        at: Addr,
        /// Whether it can be written to.
        access: Access,
    },
    /// `mremap(2)`: the mapping that ends at the start of the range goes on to its end.
    Extend(AddrRange),
    /// `ARCH_MAP_VDSO_64`: vvar and vDSO, in the order and of the sizes this kernel has.
    MapVdso(AddrRange),
    /// Fails unless the range's last page is mapped.
    Expect(AddrRange),
    /// `mremap(2)` of a part of vvar or the vDSO to another place of the same size.
    Move {
        /// Where it is.
        from: AddrRange,
        /// Where it goes.
        to: AddrRange,
    },
    /// `mprotect(2)`.
    Protect(AddrRange, ProtFlags),
    /// `MADV_DONTNEED`: private pages go.
    Drop(AddrRange),
    /// `madvise(2)`, with a number that stands in [`Advice`].
    Advise(AddrRange, Advice),
    /// Gives the first page of the range contents of its own (zeros) for a moment.
    Touch(AddrRange),
    /// `mlock2(2)`.
    Lock {
        /// What.
        range: AddrRange,
        /// Only what is touched.
        on_fault: bool,
        /// Whether all of it can be touched. If not, the call locks it, and fails.
        accessible: bool,
    },
    /// `PR_SET_VMA_ANON_NAME`.
    Name(AddrRange, Arc<OsStr>),
    /// `MADV_GUARD_INSTALL`.
    Guard(AddrRange),
    /// `mseal(2)`.
    Seal(AddrRange),
}

/// What has to be open in a process to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapSource {
    /// A file, open like this.
    File(FileId, Access),
    /// A shared memory object, open for reading and writing.
    Object(ShmemId),
}

impl MapSource {
    /// What has to be open to map what has this backing.
    #[must_use]
    pub fn of(backing: &Backing) -> Option<Self> {
        match *backing {
            Backing::File { file: FileRange { file, access, .. }, .. } => {
                Some(Self::File(file, access))
            }
            Backing::SharedMemory { object, .. } => Some(Self::Object(object)),
            _ => None,
        }
    }
}

const MADV_DONTNEED: i32 = 4;
const MADV_POPULATE_WRITE: i32 = 23;
const MADV_GUARD_INSTALL: i32 = 102;
const MLOCK_ONFAULT: u32 = 1;
const ARCH_MAP_VDSO_64: i32 = 0x2003;
const PR_SET_VMA: i32 = 0x5356_4d41;
const PR_SET_VMA_ANON_NAME: i32 = 0;
const SYS_MSEAL: i64 = 462;

/// About how many calls a batch has at most. More make no difference to the time it takes.
const AT_ONCE: usize = 512;

/// Opens files in a process, for it to map them.
pub trait MapFiles {
    /// What can go wrong.
    type Error: From<Error>;

    /// Adds calls that open the file the process runs, and says which number the descriptor will
    /// have. It is closed afterwards.
    ///
    /// # Errors
    ///
    /// The file cannot be had.
    fn open_exe(&mut self, batch: &mut Batch) -> Result<FdNum, Self::Error>;

    /// Adds calls that open `source`, and says where its descriptor will be found. It is closed
    /// afterwards, once for each time it was opened.
    ///
    /// # Errors
    ///
    /// The file cannot be had.
    fn open(&mut self, batch: &mut Batch, source: MapSource) -> Result<Arg, Self::Error>;
}

/// Steps on their way into batches.
pub(super) struct Runner<'a, F> {
    puppet: &'a mut dyn Perform,
    files: F,
    batch: Batch,
    /// What is open within the batch.
    open: BTreeMap<MapSource, Arg>,
}

impl<'a, F: MapFiles> Runner<'a, F> {
    pub(super) fn new(puppet: &'a mut dyn Perform, files: F) -> Self {
        Self { puppet, files, batch: Batch::new(), open: BTreeMap::new() }
    }

    /// Adds calls other than steps. `exe` is the number of a descriptor of the file it runs, if
    /// asked for.
    pub(super) fn also(
        &mut self,
        needs_exe: bool,
        add: impl FnOnce(&mut Batch, Option<FdNum>),
    ) -> Result<(), F::Error> {
        let exe = match needs_exe {
            true => Some(self.files.open_exe(&mut self.batch)?),
            false => None,
        };
        add(&mut self.batch, exe);
        if let Some(exe) = exe {
            self.batch.call(libc::SYS_close, [exe.as_raw().into()]);
        }
        Ok(())
    }

    pub(super) fn steps(&mut self, steps: &[MapStep]) -> Result<(), F::Error> {
        for step in steps {
            let source = match step {
                MapStep::Map(vma) => MapSource::of(&vma.backing),
                _ => None,
            };
            let fd = match source {
                None => None,
                Some(source) => Some(match self.open.entry(source) {
                    Entry::Occupied(open) => *open.get(),
                    Entry::Vacant(place) => {
                        *place.insert(self.files.open(&mut self.batch, source)?)
                    }
                }),
            };
            step.put(&mut self.batch, fd);
            if self.batch.len() >= AT_ONCE {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), F::Error> {
        for (_, fd) in std::mem::take(&mut self.open) {
            self.batch.call(libc::SYS_close, [fd]);
        }
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() {
            self.puppet.perform(batch).map_err(Error::from)?;
        }
        Ok(())
    }

    /// Runs what is left.
    pub(super) fn finish(mut self) -> Result<(), F::Error> {
        self.flush()
    }
}

/// For steps that map no files.
pub(super) struct NoFiles;

impl MapFiles for NoFiles {
    type Error = Error;

    fn open_exe(&mut self, _: &mut Batch) -> Result<FdNum> {
        unreachable!("all files are mapped before")
    }

    fn open(&mut self, _: &mut Batch, _: MapSource) -> Result<Arg> {
        unreachable!("all files are mapped before")
    }
}

impl MapStep {
    /// Adds the calls. `fd` is the descriptor of what is to be mapped, if it takes one.
    fn put(&self, batch: &mut Batch, fd: Option<Arg>) {
        let advise = |batch: &mut Batch, range: AddrRange, advice: i32| {
            let [start, len] = bounds(range);
            batch.call(libc::SYS_madvise, [start, len, advice.into()]);
        };
        match self {
            Self::Unmap(range) => {
                batch.call(libc::SYS_munmap, bounds(*range));
            }
            Self::Map(vma) => {
                let [start, len] = bounds(vma.range);
                let (flags, offset) = map_flags(vma);
                let fd = fd.unwrap_or(Arg::from(-1));
                let args = [start, len, vma.prot.bits().into(), flags.bits().into(), fd];
                let [a, b, c, d, e] = args;
                batch.call(libc::SYS_mmap, [a, b, c, d, e, offset.into()]);
            }
            Self::Attach { segment, at, access } => {
                let flags = match access {
                    Access::ReadOnly | Access::Sealed => libc::SHM_RDONLY,
                    Access::ReadWrite => 0,
                };
                let args = [segment.as_raw().into(), (*at).into(), flags.into()];
                batch.call(libc::SYS_shmat, args);
            }
            Self::Extend(range) => {
                // The last page stands for the mapping: it is in it for sure, however much the
                // kernel has merged.
                let last = range.start().as_raw() - PAGE_SIZE;
                let len = PAGE_SIZE + range.len();
                batch.call(libc::SYS_mremap, [last.into(), PAGE_SIZE.into(), len.into(), 0.into()]);
            }
            Self::MapVdso(range) => {
                let start = range.start().into();
                batch.call(libc::SYS_arch_prctl, [ARCH_MAP_VDSO_64.into(), start]);
            }
            Self::Expect(range) => {
                // To move a page to where it is needs no more than that it is there.
                let page = (range.end().as_raw() - PAGE_SIZE).into();
                let len: Arg = PAGE_SIZE.into();
                batch.call(libc::SYS_mremap, [page, len, len, 0.into()]);
            }
            Self::Move { from, to } => {
                const MOVE: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                let [start, len] = bounds(*from);
                batch.call(libc::SYS_mremap, [start, len, len, MOVE.into(), to.start().into()]);
            }
            Self::Protect(range, prot) => {
                let [start, len] = bounds(*range);
                batch.call(libc::SYS_mprotect, [start, len, prot.bits().into()]);
            }
            Self::Drop(range) => advise(batch, *range, MADV_DONTNEED),
            Self::Advise(range, advice) => {
                for number in 0..i32::try_from(u64::BITS).expect("it is small") {
                    if advice.bits() >> number & 1 != 0 {
                        advise(batch, *range, number);
                    }
                }
            }
            Self::Touch(range) => {
                let page = AddrRange::with_len(range.start(), PAGE_SIZE).expect("mapped memory");
                advise(batch, page, MADV_POPULATE_WRITE);
                advise(batch, page, MADV_DONTNEED);
            }
            Self::Lock { range, on_fault, accessible } => {
                let [start, len] = bounds(*range);
                let flags = if *on_fault { MLOCK_ONFAULT } else { 0 };
                let args = [start, len, flags.into()];
                if *accessible {
                    batch.call(libc::SYS_mlock2, args);
                } else {
                    batch.may_fail(libc::SYS_mlock2, args);
                }
            }
            Self::Name(range, name) => {
                let [start, len] = bounds(*range);
                let name = batch.data(&[name.as_bytes(), b"\0"].concat());
                let op = [PR_SET_VMA.into(), PR_SET_VMA_ANON_NAME.into()];
                let [set, what] = op;
                batch.call(libc::SYS_prctl, [set, what, start, len, name.into()]);
            }
            Self::Guard(range) => advise(batch, *range, MADV_GUARD_INSTALL),
            Self::Seal(range) => {
                let [start, len] = bounds(*range);
                batch.call(SYS_MSEAL, [start, len, 0.into()]);
            }
        }
    }
}

fn bounds(range: AddrRange) -> [Arg; 2] {
    [range.start().into(), range.len().into()]
}

/// Flags and offset for `mmap(2)`.
fn map_flags(vma: &Vma) -> (MapFlags, u64) {
    const ANONYMOUS: MapFlags = MapFlags::from_bits_retain(0x20);
    const DROPPABLE: MapFlags = MapFlags::from_bits_retain(0x08);
    let (flags, offset) = match vma.backing {
        Backing::Anonymous { .. } => {
            let huge = vma.huge.map_or(MapFlags::empty(), HugePages::map_flags);
            (MapFlags::PRIVATE | ANONYMOUS | huge, 0)
        }
        Backing::Droppable => (DROPPABLE | ANONYMOUS, 0),
        Backing::File { file, private: true } => (MapFlags::PRIVATE, file.offset),
        Backing::File { file, private: false } => (MapFlags::SHARED, file.offset),
        Backing::SharedMemory { offset, .. } => (MapFlags::SHARED, offset),
        Backing::Segment { .. } => unreachable!("segments are attached"),
        Backing::AioRing { .. } => unreachable!("other memory is in the place of rings"),
        Backing::Ring { .. } => unreachable!("nothing is in the place of rings"),
        Backing::Vdso | Backing::Vvar | Backing::Vsyscall => {
            unreachable!("the kernel's own mappings are not mapped like others")
        }
    };
    let mut flags = flags | MapFlags::FIXED_NOREPLACE;
    flags.set(MapFlags::GROWSDOWN, vma.traits.contains(Traits::GROWS_DOWN));
    flags.set(MapFlags::NORESERVE, vma.traits.contains(Traits::NO_RESERVE));
    (flags, offset)
}
