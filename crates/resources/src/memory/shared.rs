//! Shared memory objects: what is behind shared anonymous memory and memfds.
//!
//! The kernel keeps them as unlinked files on a tmpfs of its own, so they are known by inode, and
//! read and written as files.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dormouse_kernel::proc::{self, Entry, ProcDir};
use dormouse_kernel::shm::SegmentId;
use dormouse_kernel::{Addr, AddrRange, DeviceId, Errno, HostPid, PAGE_SIZE};
use rustix::fs::{MemfdFlags, SeekFrom, fstat, memfd_create, seek};

use super::error::{Error, Result};
use super::segment::{Segment, Segments};
use super::survey::push_joined;
use super::vma::ShmemId;
use crate::unseen::open_unseen;

/// The shared memory objects of a dump.
#[derive(Debug)]
pub struct SharedObjects {
    device: DeviceId,
    by_inode: HashMap<(DeviceId, u64), ShmemId>,
    holders: Vec<Holder>,
    segments: Segments,
    /// Those in which pages of zeros differ from none, as userfaultfds report those that are missing.
    with_zeros: HashSet<(DeviceId, u64)>,
}

/// Where an object can be reached.
#[derive(Debug)]
enum Holder {
    /// By a mapping.
    Mapping { pid: HostPid, range: AddrRange },
    /// By a descriptor of this process.
    File(OwnedFd),
}

impl SharedObjects {
    /// None so far. Finds out which file system they are on.
    ///
    /// # Errors
    ///
    /// `memfd_create(2)` failed.
    pub fn new() -> Result<Self> {
        let failed = |source| Error::Kernel { operation: "create a memfd", source };
        let sample = memfd_create("dormouse", MemfdFlags::CLOEXEC).map_err(failed)?;
        let device = DeviceId::from_stat(fstat(&sample).map_err(failed)?.st_dev);
        let (by_inode, holders) = (HashMap::new(), Vec::new());
        let (segments, with_zeros) = (Segments::default(), HashSet::new());
        Ok(Self { device, by_inode, holders, segments, with_zeros })
    }

    /// The file system the kernel keeps them on.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// How many are mapped, or were added.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_inode.len()
    }

    /// The number of the object that a stopped process has mapped there.
    pub(super) fn mapped(&mut self, vma: &proc::Vma, pid: HostPid) -> ShmemId {
        let range = vma.range;
        self.id((vma.device, vma.inode), || Holder::Mapping { pid, range })
    }

    /// Pages of zeros are to be stored of the object that is mapped there.
    pub(super) fn keep_zeros(&mut self, vma: &proc::Vma) {
        self.with_zeros.insert((vma.device, vma.inode));
    }

    /// The objects of which pages of zeros are stored.
    pub(super) fn with_zeros(&self) -> HashSet<ShmemId> {
        self.with_zeros.iter().filter_map(|inode| self.by_inode.get(inode)).copied().collect()
    }

    /// The number of the object behind `file`, a memfd open for reading (by
    /// `O_NOATIME`, if it may be). Contents are stored once, however often it is
    /// given here or mapped.
    ///
    /// # Errors
    ///
    /// `fstat(2)` failed.
    pub fn add(&mut self, file: OwnedFd) -> Result<ShmemId> {
        let stat =
            fstat(&file).map_err(|source| Error::Kernel { operation: "stat a memfd", source })?;
        let inode = (DeviceId::from_stat(stat.st_dev), stat.st_ino);
        Ok(self.id(inode, || Holder::File(file)))
    }

    /// The segment with this number and this name in maps, which a stopped process has attached at
    /// `range`.
    pub(super) fn attached(
        &mut self,
        (id, name): (SegmentId, &Path),
        pid: HostPid,
        range: AddrRange,
    ) -> Result<&Segment> {
        let holders = &mut self.holders;
        // Its inode has the segment's number, which some other object may have as well.
        self.segments.seen(id, name, || hold(holders, Holder::Mapping { pid, range }))
    }

    /// All System V segments seen.
    #[must_use]
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    fn id(&mut self, inode: (DeviceId, u64), holder: impl FnOnce() -> Holder) -> ShmemId {
        let holders = &mut self.holders;
        *self.by_inode.entry(inode).or_insert_with(|| hold(holders, holder()))
    }

    /// All objects, each opened for reading when its turn comes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ShmemId, SharedObject<'_>)> {
        self.holders
            .iter()
            .zip(1..)
            .map(|(holder, id)| (ShmemId::from_raw(id), SharedObject(holder)))
    }
}

fn hold(holders: &mut Vec<Holder>, holder: Holder) -> ShmemId {
    holders.push(holder);
    ShmemId::from_raw(holders.len().try_into().expect("fewer objects than inodes"))
}

/// One object.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedObject<'a>(&'a Holder);

impl SharedObject<'_> {
    /// The parts of it that have contents, as whole pages. (To the kernel, what was allocated but
    /// never written has contents as well.)
    pub(super) fn extents(self) -> Result<Vec<AddrRange>> {
        let file = self.open()?;
        let mut extents = Vec::new();
        let failed = |source| Error::Kernel {
            operation: "find the pages of a shared memory object",
            source,
        };
        let mut at = 0;
        loop {
            let start = match seek(&file, SeekFrom::Data(at)) {
                Ok(start) => start,
                // No more data.
                Err(Errno::NXIO) => return Ok(extents),
                Err(source) => return Err(failed(source)),
            };
            at = seek(&file, SeekFrom::Hole(start)).map_err(failed)?;
            let start = Addr::from_raw(start).page_start();
            let end = Addr::from_raw(at.next_multiple_of(PAGE_SIZE));
            push_joined(&mut extents, AddrRange::new(start, end).expect("a hole follows data"));
        }
    }

    /// Opens it for reading, which is not to show in its access time.
    pub(super) fn open(self) -> Result<OwnedFd> {
        match self.0 {
            Holder::Mapping { pid, range } => {
                let proc = ProcDir::open(*pid)?;
                let errno = |error: &proc::Error| match error {
                    proc::Error::Io { source, .. } => Some(*source),
                    _ => None,
                };
                let open = |flags| proc.open_entry(Entry::MapFile(*range), flags);
                Ok(open_unseen(open, errno)?)
            }
            Holder::File(file) => file.as_fd().try_clone_to_owned().map_err(|error| {
                let source = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                Error::Kernel { operation: "duplicate a memfd", source }
            }),
        }
    }
}
