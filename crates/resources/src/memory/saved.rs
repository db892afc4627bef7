//! An address space as the images of a dump have it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use dormouse_image::pagemap::{Location, Pagemap};
use dormouse_image::proto::mm::MmEntry;
use dormouse_image::{ImageDir, ImageError, ImageName};
use dormouse_kernel::shm::SegmentId;
use dormouse_kernel::{Addr, AddrRange, PAGE_SIZE};
use rustix::fs::{MemfdFlags, memfd_create};

use super::aio::AioContext;
use super::contents::{ContentRun, Contents, PageSource};
use super::error::{Error, MappingProblem, Result};
use super::mm::Mm;
use super::segment::Segments;
use super::survey::push_joined;
use super::vma::{Backing, Traits};

/// The address space of a process in an image: checked, so that nothing that follows has to.
#[derive(Debug)]
pub struct SavedMemory {
    /// Mappings and addresses.
    pub mm: Mm,
    pub(super) image: ImageName,
    /// Private memory.
    pub(super) contents: Contents,
    /// The vDSO the process had.
    pub(super) vdso: Contents,
    /// The sizes of the System V segments it has attached.
    pub(super) segments: BTreeMap<SegmentId, u64>,
    /// The AIO contexts of the process.
    pub(super) contexts: Vec<AioContext>,
    /// Whether pages in common have the same source, and no others do: a dump of dormouse says so,
    /// unless that would have saved next to nothing.
    pub(super) exact: bool,
}

/// All pages files of a dump, open.
#[derive(Debug, Default)]
pub struct PagesFiles {
    files: Vec<(ImageName, File)>,
    by_inode: HashMap<(u64, u64), u32>,
    /// Contents that are in no file of the dump, each once.
    made: BTreeMap<Vec<u8>, PageSource>,
}

impl PagesFiles {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn add(&mut self, image: ImageName, file: File) -> Result<u32> {
        let metadata =
            file.metadata().map_err(|source| Error::Pages { operation: "stat", image, source })?;
        let files = &mut self.files;
        Ok(*self.by_inode.entry((metadata.dev(), metadata.ino())).or_insert_with(|| {
            files.push((image, file));
            u32::try_from(files.len() - 1).expect("fewer files than descriptors")
        }))
    }

    /// Adds contents that are in no file of the dump; `image` is where they come from.
    pub(super) fn add_made(&mut self, image: ImageName, bytes: Vec<u8>) -> Result<PageSource> {
        if let Some(&source) = self.made.get(&bytes) {
            return Ok(source);
        }
        let fail = |operation| move |source| Error::Pages { operation, image, source };
        let file = memfd_create("vdso", MemfdFlags::CLOEXEC)
            .map_err(|errno| fail("memfd_create")(errno.into()))?;
        let file = File::from(file);
        file.write_all_at(&bytes, 0).map_err(fail("write"))?;
        let source = PageSource { file: self.add(image, file)?, offset: 0 };
        self.made.insert(bytes, source);
        Ok(source)
    }

    /// Reads the contents of pages.
    pub(super) fn read(&self, source: PageSource, into: &mut [u8]) -> Result<()> {
        let (image, file) = &self.files[source.file as usize];
        file.read_exact_at(into, source.offset).map_err(|source| Error::Pages {
            operation: "read",
            image: *image,
            source,
        })
    }
}

/// Below this many pages, processes are compared page by page although the dump says what they
/// have in common: [`SavedMemory::exact`].
const FEW_PAGES: u64 = 1024;

impl SavedMemory {
    /// Reads `mm-PID.img` and `pagemap-PID.img`.
    ///
    /// # Errors
    ///
    /// One of them is missing or makes no sense.
    pub fn decode(dir: &ImageDir, image_pid: u32, files: &mut PagesFiles) -> Result<Self> {
        let image = ImageName::Mm(image_pid);
        let entry: MmEntry = dir.get_one(image)?;
        let mut mm = Mm::decode(image, &entry)?;
        let pagemap = ImageName::Pagemap(image_pid);
        let all = read_contents(dir, pagemap, files)?;
        let mut private = Vec::new();
        let mut vdso = Vec::new();
        for vma in &mm.vmas {
            if vma.backing == Backing::Vdso {
                vdso.push(vma.range);
            } else if vma.is_private() {
                push_joined(&mut private, vma.range);
            }
        }
        let (contents, vdso) = (all.within(&private), all.within(&vdso));
        if contents.pages() + vdso.pages() != all.pages() {
            let stray = all.without(&private).without(&vdso.ranges());
            let at = stray.runs().first().map_or(Addr::NULL, |run| run.range.start());
            let problem = MappingProblem::Pages;
            return Err(Error::Corrupt { image: pagemap, at, problem });
        }
        let ours = entry.vmas.iter().all(|vma| {
            vma.extra.is_some() || vma.status == dormouse_image::proto::vma_status::GUARD
        });
        if !ours {
            // What has pages of its own was written to, once at least.
            for vma in mm.vmas.iter_mut().filter(|vma| vma.is_private()) {
                if !vma.traits.contains(Traits::NO_RESERVE) && contents.touches(vma.range) {
                    vma.traits |= Traits::ACCOUNTED;
                }
            }
        }
        let exact = ours && contents.pages() >= FEW_PAGES;
        let problem = MappingProblem::AioRing;
        let contexts = AioContext::all(&mm.vmas, &contents, files)?
            .map_err(|at| Error::Corrupt { image, at, problem })?;
        Ok(Self { mm, image, contents, vdso, segments: BTreeMap::new(), contexts, exact })
    }

    /// Finds the System V segments that are attached among those of the dump.
    ///
    /// # Errors
    ///
    /// One is not there, or too small.
    pub fn find_segments(&mut self, segments: &Segments) -> Result<()> {
        for vma in &self.mm.vmas {
            let Backing::Segment { segment, offset, .. } = vma.backing else { continue };
            let len = segments.len_of(segment).filter(|len| offset + vma.range.len() <= *len);
            let (image, at) = (self.image, vma.range.start());
            let problem = MappingProblem::Segment(segment);
            let len = len.ok_or(Error::Corrupt { image, at, problem })?;
            self.segments.insert(segment, len);
        }
        Ok(())
    }

    /// Pages stored of the process.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.contents.pages()
    }
}

pub(super) fn read_contents(
    dir: &ImageDir,
    image: ImageName,
    files: &mut PagesFiles,
) -> Result<Contents> {
    let missing = || ImageError::Missing { path: dir.path_of(image) };
    let pagemap = Pagemap::read(dir, image)?.ok_or_else(missing)?;
    let numbers = pagemap
        .files
        .into_iter()
        .map(|file| file.map(|file| files.add(ImageName::Pages(file.id), file.file)).transpose())
        .collect::<Result<Vec<_>>>()?;
    let mut contents = Contents::default();
    for run in pagemap.runs {
        let at = Addr::from_raw(run.vaddr);
        let range = AddrRange::with_len(at, run.nr_pages * PAGE_SIZE).expect("it was checked");
        let source = match run.location {
            Location::File { level, offset } => {
                numbers[level].map(|file| PageSource { file, offset })
            }
            Location::Remote => None,
        };
        let problem = MappingProblem::Remote;
        let source = source.ok_or(Error::Corrupt { image, at, problem })?;
        contents.push(ContentRun { range, source });
    }
    Ok(contents)
}
