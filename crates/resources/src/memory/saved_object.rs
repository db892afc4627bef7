//! Shared memory objects as the images of a dump have them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::file_mapping::write_mapped;
use dormouse_kernel::proc::{Entry, ProcDir};
use dormouse_kernel::{Addr, AddrRange, Errno, PAGE_SIZE};
use dormouse_puppet::{Bare, Batch};
use rustix::fs::OFlags;

use super::contents::{ContentRun, Contents};
use super::error::{Error, MappingProblem, Result};
use super::saved::{PagesFiles, SavedMemory, read_contents};
use super::vma::{Backing, HugePages, ShmemId, Traits};
use super::workers::{self, Buffer, Chunk};

/// A shared memory object in an image.
#[derive(Debug)]
pub struct SavedObject {
    image: ImageName,
    contents: Contents,
}

/// Shared anonymous memory that a tree has mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// As much of it as is mapped somewhere, in bytes. That there was more is not in an image.
    pub size: u64,
    /// Whether it was mapped with `MAP_NORESERVE`.
    pub no_reserve: bool,
    /// Whether it is made of huge pages, and of which.
    pub huge: Option<HugePages>,
}

impl SharedMemory {
    /// All objects that the processes have mapped. (Memfds are files.)
    pub fn of<'a>(memories: impl IntoIterator<Item = &'a SavedMemory>) -> BTreeMap<ShmemId, Self> {
        let mut objects = BTreeMap::new();
        for vma in memories.into_iter().flat_map(|memory| &memory.mm.vmas) {
            if let Backing::SharedMemory { object, offset } = vma.backing {
                let huge = vma.huge;
                let found =
                    objects.entry(object).or_insert(Self { size: 0, no_reserve: false, huge });
                // The sum was checked when the mapping was decoded.
                found.size = found.size.max(offset + vma.range.len());
                found.no_reserve |= vma.traits.contains(Traits::NO_RESERVE);
            }
        }
        objects
    }

    /// Makes such an object, with `puppet` for a moment as the process that maps it: only what
    /// `mmap(2)` makes has the name of anonymous memory. It is open for reading and writing.
    ///
    /// # Errors
    ///
    /// The kernel refuses, for instance for want of memory.
    pub fn create(self, puppet: &mut Bare) -> Result<OwnedFd> {
        let no_reserve = if self.no_reserve { libc::MAP_NORESERVE } else { 0 };
        let huge = self.huge.map_or(0, |huge| huge.map_flags().bits().cast_signed());
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | no_reserve | huge;
        let len = self.size.next_multiple_of(self.huge.map_or(PAGE_SIZE, HugePages::size));
        let mut batch = Batch::new();
        let args = [0.into(), len.into(), libc::PROT_NONE.into(), flags.into(), (-1).into()];
        let at = batch.call(libc::SYS_mmap, args);
        let start = Addr::from_raw(puppet.run(batch)?.value(&at));
        let range = AddrRange::with_len(start, len).expect("the kernel mapped it");
        let proc = ProcDir::open(puppet.tid())?;
        let file = proc.open_entry(Entry::MapFile(range), OFlags::RDWR);
        let mut batch = Batch::new();
        batch.call(libc::SYS_munmap, [start.into(), len.into()]);
        puppet.run(batch)?;
        Ok(file?)
    }
}

impl SavedObject {
    /// Reads `pagemap-shmem-ID.img`. CRIU writes none for an object without a size.
    ///
    /// # Errors
    ///
    /// It is missing or makes no sense.
    pub fn decode(dir: &ImageDir, id: u64, files: &mut PagesFiles) -> Result<(ShmemId, Self)> {
        let image = ImageName::PagemapShmem(id);
        let number = u32::try_from(id).map_err(|_| Error::Corrupt {
            image,
            at: Addr::NULL,
            problem: MappingProblem::Id(id),
        })?;
        let contents = read_contents(dir, image, files)?;
        Ok((ShmemId::from_raw(number), Self { image, contents }))
    }

    /// Where the last page stored of it ends, in bytes from its start.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.contents.runs().last().map_or(0, |run| run.range.end().as_raw())
    }

    /// Bytes stored of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.contents.pages() * PAGE_SIZE
    }

    /// Writes the contents to `file`, which is `size` bytes of zeros. `progress` hears of bytes
    /// written.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written, or the contents do not fit.
    pub fn fill(
        &self,
        file: BorrowedFd<'_>,
        size: u64,
        files: &PagesFiles,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let runs = self.contents.runs();
        if self.end() > size.next_multiple_of(PAGE_SIZE) {
            let problem = MappingProblem::Pages;
            return Err(Error::Corrupt { image: self.image, at: Addr::from_raw(size), problem });
        }
        let chunks = Chunk::cut(runs.iter().map(|run| run.range.len()));
        let work = |buffer: &mut Buffer, job: usize| {
            for (number, skip, len) in chunks[job].parts(runs, |run| run.range.len()) {
                let ContentRun { range, source } = runs[number];
                let offset = range.start().as_raw() + skip;
                let buffer = &mut buffer[..len as usize];
                files.read(source.skip(skip), buffer)?;
                // The last page may be more than the object.
                let end = len.min(size - offset) as usize;
                write(file, &buffer[..end], offset)?;
            }
            Ok(chunks[job].bytes)
        };
        let mut tell = |bytes| {
            progress(bytes);
            ControlFlow::Continue(())
        };
        workers::run(chunks.len(), Buffer::default, work, &mut tell)
    }
}

fn write(file: impl AsFd, mut from: &[u8], mut offset: u64) -> Result<()> {
    let failed = |source| Error::Kernel { operation: "write a shared memory object", source };
    while !from.is_empty() {
        match rustix::io::pwrite(&file, from, offset) {
            Ok(0) => return Err(failed(Errno::NOSPC)),
            Ok(written) => (from, offset) = (&from[written..], offset + written as u64),
            Err(Errno::INTR) => {}
            // Files of huge pages can only be mapped.
            Err(Errno::INVAL) => {
                return write_mapped(file.as_fd(), from, offset).map_err(failed);
            }
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(())
}
