//! An address space as the images of a dump have it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, PoisonError};

use dormouse_image::pagemap::{Location, Pagemap, PagesDir, PagesFile};
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

/// All pages files of a dump, opened as they are needed.
#[derive(Debug, Default)]
pub struct PagesFiles {
    files: Vec<(ImageName, Origin)>,
    by_inode: HashMap<(u64, u64), u32>,
    /// Directories that have some of them, each once.
    dirs: HashMap<(u64, u64), PagesDir>,
    /// Contents that are in no file of the dump, each once.
    made: BTreeMap<Vec<u8>, PageSource>,
    open: Mutex<OpenFiles>,
}

/// Where a file comes from.
#[derive(Debug)]
enum Origin {
    /// It stays open.
    Made(Arc<File>),
    /// It has this number there.
    Dir(PagesDir, u32),
}

/// Those that are open, by their places in the list of all.
#[derive(Debug, Default)]
struct OpenFiles {
    files: HashMap<u32, Arc<File>>,
    /// The first was opened first.
    order: VecDeque<u32>,
}

impl OpenFiles {
    fn add(&mut self, number: u32, file: File) -> Arc<File> {
        if self.order.len() == PagesFiles::MOST_OPEN
            && let Some(first) = self.order.pop_front()
        {
            self.files.remove(&first);
        }
        self.order.push_back(number);
        let file = Arc::new(file);
        self.files.insert(number, Arc::clone(&file));
        file
    }
}

impl PagesFiles {
    /// So many are open at once, besides those that are read from just then. To open one takes some
    /// microseconds.
    pub const MOST_OPEN: usize = 512;

    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The place of a file, which `origin` is asked for if it is not among them.
    fn add(
        &mut self,
        image: ImageName,
        file: &File,
        origin: impl FnOnce() -> Origin,
    ) -> Result<(u32, bool)> {
        let metadata =
            file.metadata().map_err(|source| Error::Pages { operation: "stat", image, source })?;
        Ok(match self.by_inode.entry((metadata.dev(), metadata.ino())) {
            Entry::Occupied(place) => (*place.get(), false),
            Entry::Vacant(place) => {
                let number = u32::try_from(self.files.len()).expect("fewer files than numbers");
                self.files.push((image, origin()));
                (*place.insert(number), true)
            }
        })
    }

    /// Adds a pages file.
    fn add_saved(&mut self, PagesFile { id, file, dir }: PagesFile) -> Result<u32> {
        // Each image has opened the directory of its own.
        let dir = self.dirs.entry(dir.identity()).or_insert(dir).clone();
        let (number, is_new) = self.add(ImageName::Pages(id), &file, || Origin::Dir(dir, id))?;
        if is_new {
            self.open.get_mut().unwrap_or_else(PoisonError::into_inner).add(number, file);
        }
        Ok(number)
    }

    /// Adds contents that are in no file of the dump; `image` is where they come from.
    pub(super) fn add_made(&mut self, image: ImageName, bytes: Vec<u8>) -> Result<PageSource> {
        if let Some(&source) = self.made.get(&bytes) {
            return Ok(source);
        }
        let fail = |operation| move |source| Error::Pages { operation, image, source };
        let file = memfd_create("vdso", MemfdFlags::CLOEXEC)
            .map_err(|errno| fail("memfd_create")(errno.into()))?;
        let file = Arc::new(File::from(file));
        file.write_all_at(&bytes, 0).map_err(fail("write"))?;
        let (number, _) = self.add(image, &file, || Origin::Made(Arc::clone(&file)))?;
        let source = PageSource { file: number, offset: 0 };
        self.made.insert(bytes, source);
        Ok(source)
    }

    /// Reads the contents of pages.
    pub(super) fn read(&self, source: PageSource, into: &mut [u8]) -> Result<()> {
        let (image, origin) = &self.files[source.file as usize];
        let fail = |operation| move |source| Error::Pages { operation, image: *image, source };
        let file = match origin {
            Origin::Made(file) => Arc::clone(file),
            Origin::Dir(dir, id) => self.opened(source.file, dir, *id).map_err(fail("open"))?,
        };
        file.read_exact_at(into, source.offset).map_err(fail("read"))
    }

    fn opened(&self, number: u32, dir: &PagesDir, id: u32) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.files.get(&number) {
            Some(file) => Ok(Arc::clone(file)),
            None => Ok(open.add(number, dir.open(id)?)),
        }
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
        .map(|file| file.map(|file| files.add_saved(file)).transpose())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use dormouse_image::pagemap::{PagemapBuilder, Stored};
    use dormouse_image::proto::inventory::InventoryEntry;
    use dormouse_image::store::NewDump;

    use super::*;

    #[test]
    fn more_files_are_read_than_are_open() {
        let tmp = tempfile::tempdir().unwrap();
        let dump = NewDump::begin(tmp.path()).unwrap();
        let numbers = 1..PagesFiles::MOST_OPEN as u32 + 3;
        for number in numbers.clone() {
            let mut map = PagemapBuilder::default();
            map.push(0, 1, Stored::Here).unwrap();
            map.write(&dump, ImageName::PagemapShmem(number.into()), number).unwrap();
            let pages = dump.raw(ImageName::Pages(number)).unwrap();
            pages.write_all_at(&number.to_ne_bytes(), PAGE_SIZE - 4).unwrap();
        }
        let img_version = dormouse_image::magic::IMAGES_VERSION;
        dump.commit(&InventoryEntry { img_version, ..Default::default() }).unwrap();
        let (dir, _) = ImageDir::open(tmp.path()).unwrap();
        let mut files = PagesFiles::new();
        let saved = numbers.clone().map(|number| {
            let image = ImageName::PagemapShmem(number.into());
            read_contents(&dir, image, &mut files).unwrap().runs()[0].source
        });
        let saved: Vec<_> = saved.collect();
        let made = files.add_made(ImageName::Mm(1), vec![7; 4]).unwrap();
        let read = |source: PageSource| {
            let mut last = [0; 4];
            files.read(source.skip(PAGE_SIZE - 4), &mut last).unwrap();
            assert!(files.open.lock().unwrap().files.len() <= PagesFiles::MOST_OPEN);
            u32::from_ne_bytes(last)
        };
        assert!(saved.iter().rev().map(|&source| read(source)).eq(numbers.rev()));
        let mut bytes = [0; 4];
        files.read(made, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 4]);
    }
}
