//! Reading pagemaps.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::fstat;

use crate::error::{ImageError, Result};
use crate::name::ImageName;
use crate::pagemap::{Entry, PAGE_SIZE, PageFlags, PagemapProblem};
use crate::proto::pagemap::{PagemapEntry, PagemapHead};
use crate::store::{ImageDir, open_in};

/// More directories than this in a chain are taken for an attack.
const MAX_CHAIN: usize = 1024;

/// The stored pages of a task or of a shared memory object.
#[derive(Debug)]
pub struct Pagemap {
    /// Runs in ascending order, none overlapping, all within their files.
    pub runs: Vec<PageRun>,
    /// The pages file of each directory of the chain, the dump's own first. `None` where no run
    /// needs one.
    pub files: Vec<Option<PagesFile>>,
}

/// A run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// First address; for shared memory the offset in the object, in bytes.
    pub vaddr: u64,
    /// Number of pages.
    pub nr_pages: u64,
    /// The contents may be brought when the task first touches them.
    pub lazy: bool,
    /// Where the contents are.
    pub location: Location,
}

/// Where the contents of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a pages file.
    File {
        /// Which of [`Pagemap::files`].
        level: usize,
        /// Offset of the first page in bytes.
        offset: u64,
    },
    /// In none: they come from a page server.
    Remote,
}

/// An open pages file.
#[derive(Debug)]
pub struct PagesFile {
    /// The number in its name.
    pub id: u32,
    /// The file.
    pub file: File,
    /// Where it is.
    pub dir: PagesDir,
}

/// The directory of a pages file, which can be opened there again.
#[derive(Clone, Debug)]
pub struct PagesDir {
    fd: Arc<OwnedFd>,
    identity: (u64, u64),
}

impl PagesDir {
    fn of(dir: &ImageDir) -> Result<Self> {
        Ok(Self { fd: dir.share(), identity: identity(dir)? })
    }

    /// What tells it from other directories, however often each is opened.
    #[must_use]
    pub const fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Opens the pages file with a number.
    ///
    /// # Errors
    /// What `open(2)` says.
    pub fn open(&self, id: u32) -> io::Result<File> {
        Ok(open_in(&self.fd, ImageName::Pages(id)).map(File::from)?)
    }
}

impl Pagemap {
    /// Reads the pagemap `name` of a dump, following its parents; `None` if there is no such image.
    ///
    /// # Errors
    /// When an image of the chain is missing or makes no sense.
    pub fn read(dir: &ImageDir, name: ImageName) -> Result<Option<Self>> {
        let Some(first) = Level::read(dir, name)? else { return Ok(None) };
        let mut levels = vec![first];
        let place = PagesDir::of(dir)?;
        let mut seen = BTreeSet::from([place.identity]);
        let mut files = vec![levels[0].open(dir, place)?];
        let mut ancestor: Option<ImageDir> = None;
        while levels.last().is_some_and(Level::asks_parent) {
            let current = ancestor.as_ref().unwrap_or(dir);
            let missing = || ImageError::Missing {
                path: current.path().join(crate::store::PARENT).join(name.to_string()),
            };
            let parent = current.parent()?.ok_or_else(missing)?;
            let place = PagesDir::of(&parent)?;
            if !seen.insert(place.identity) || levels.len() == MAX_CHAIN {
                return Err(corrupt(dir, name, PagemapProblem::EndlessChain));
            }
            let level = Level::read(&parent, name)?.ok_or_else(missing)?;
            files.push(level.open(&parent, place)?);
            levels.push(level);
            ancestor = Some(parent);
        }
        let sizes = files
            .iter()
            .map(|file| file.as_ref().map_or(Ok(0), |pages| pages.file.metadata().map(|m| m.len())))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| ImageError::io("stat the pages of", &dir.path_of(name), e))?;
        let levels: Vec<_> =
            levels.iter().zip(&sizes).map(|(level, &len)| (&*level.entries, len)).collect();
        let runs = resolve(&levels).map_err(|problem| corrupt(dir, name, problem))?;
        Ok(Some(Self { runs, files }))
    }
}

fn corrupt(dir: &ImageDir, name: ImageName, problem: PagemapProblem) -> ImageError {
    ImageError::Corrupt { path: dir.path_of(name), offset: 0, problem: problem.into() }
}

fn identity(dir: &ImageDir) -> Result<(u64, u64)> {
    let stat = fstat(dir.as_fd()).map_err(|e| ImageError::io("stat", dir.path(), e))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Length in pages and flags of each run of a directory's own pagemap; none if it has none.
pub(crate) fn flagged(dir: &ImageDir, name: ImageName) -> Result<Vec<(u64, PageFlags)>> {
    let entries = Level::read(dir, name)?.map_or_else(Vec::new, |level| level.entries);
    Ok(entries.into_iter().map(|entry| (entry.nr_pages, entry.flags)).collect())
}

/// The pagemap of one directory.
struct Level {
    pages_id: u32,
    entries: Vec<Entry>,
}

impl Level {
    fn read(dir: &ImageDir, name: ImageName) -> Result<Option<Self>> {
        let Some(mut reader) = dir.reader(name)? else { return Ok(None) };
        let PagemapHead { pages_id } = reader.need_message()?;
        let mut entries = Vec::new();
        loop {
            let at = reader.offset();
            let Some(message) = reader.next_message::<PagemapEntry>()? else { break };
            entries.push(Entry::try_from(&message).map_err(|e| reader.corrupt(at, e))?);
        }
        Ok(Some(Self { pages_id, entries }))
    }

    fn asks_parent(&self) -> bool {
        self.entries.iter().any(|entry| entry.flags.contains(PageFlags::PARENT))
    }

    fn open(&self, dir: &ImageDir, place: PagesDir) -> Result<Option<PagesFile>> {
        let name = ImageName::Pages(self.pages_id);
        match dir.find_file(name)? {
            Some(file) => Ok(Some(PagesFile { id: self.pages_id, file, dir: place })),
            None if self.entries.iter().any(|entry| entry.stored() > 0) => {
                Err(ImageError::Missing { path: dir.path_of(name) })
            }
            None => Ok(None),
        }
    }
}

/// Says for every run of the first level where its contents are. Each level is its entries and the
/// size of its pages file in bytes.
pub(super) fn resolve(levels: &[(&[Entry], u64)]) -> Result<Vec<PageRun>, PagemapProblem> {
    let Some(&(entries, _)) = levels.first() else { return Ok(Vec::new()) };
    let mut walks: Vec<_> = levels.iter().map(|&(entries, len)| Walk::new(entries, len)).collect();
    let mut runs = Vec::new();
    let mut end = 0;
    for entry in entries {
        if entry.vaddr < end {
            return Err(PagemapProblem::Order { vaddr: entry.vaddr, end });
        }
        end = entry.end();
        let lazy = entry.flags.contains(PageFlags::LAZY);
        let mut found = |run| push(&mut runs, run);
        if entry.flags == PageFlags::LAZY {
            found(PageRun {
                vaddr: entry.vaddr,
                nr_pages: entry.nr_pages,
                lazy,
                location: Location::Remote,
            });
        } else {
            find(&mut walks, 0, entry.vaddr, entry.nr_pages, lazy, &mut found)?;
        }
    }
    Ok(runs)
}

/// Finds a range that `level` should have, as CRIU would: piece by piece, each from the entry that
/// holds it.
fn find(
    walks: &mut [Walk<'_>],
    level: usize,
    mut vaddr: u64,
    mut nr_pages: u64,
    lazy: bool,
    found: &mut impl FnMut(PageRun),
) -> Result<(), PagemapProblem> {
    let missing = |vaddr| PagemapProblem::NotInParent { vaddr };
    while nr_pages > 0 {
        let (walk, parents) = walks.split_first_mut().ok_or(missing(vaddr))?;
        let entry = walk.seek(vaddr).ok_or(missing(vaddr))?;
        let piece = nr_pages.min((entry.end() - vaddr) / PAGE_SIZE);
        if entry.flags.contains(PageFlags::PARENT) {
            find(parents, level + 1, vaddr, piece, lazy, found)?;
        } else if entry.flags.contains(PageFlags::PRESENT) {
            // Sums of lying lengths saturate, far beyond the size of any file.
            let end = walk.offset.saturating_add(piece * PAGE_SIZE);
            if end > walk.len {
                return Err(PagemapProblem::OutOfFile { vaddr, end, len: walk.len });
            }
            let location = Location::File { level, offset: walk.offset };
            found(PageRun { vaddr, nr_pages: piece, lazy, location });
        } else {
            return Err(missing(vaddr));
        }
        walk.skip(vaddr + piece * PAGE_SIZE);
        vaddr += piece * PAGE_SIZE;
        nr_pages -= piece;
    }
    Ok(())
}

/// Appends a run, to the last one if it continues that.
fn push(runs: &mut Vec<PageRun>, run: PageRun) {
    if let Some(last) = runs.last_mut() {
        let bytes = last.nr_pages * PAGE_SIZE;
        let continues = match (last.location, run.location) {
            (Location::Remote, Location::Remote) => true,
            (Location::File { level: l, offset: o }, Location::File { level, offset }) => {
                l == level && o + bytes == offset
            }
            _ => false,
        };
        if continues && last.lazy == run.lazy && last.vaddr + bytes == run.vaddr {
            last.nr_pages += run.nr_pages;
            return;
        }
    }
    runs.push(run);
}

/// A walk along the entries of one level, forward only.
struct Walk<'a> {
    rest: std::slice::Iter<'a, Entry>,
    current: Option<Entry>,
    /// Address within the current entry up to which it was passed.
    at: u64,
    /// Offset in the pages file of the page at `at`.
    offset: u64,
    /// Size of the pages file.
    len: u64,
}

impl<'a> Walk<'a> {
    fn new(entries: &'a [Entry], len: u64) -> Self {
        Self { rest: entries.iter(), current: None, at: 0, offset: 0, len }
    }

    /// The entry that holds `vaddr`, if it is reached by the rules of the module's page.
    fn seek(&mut self, vaddr: u64) -> Option<Entry> {
        loop {
            if let Some(entry) = self.current {
                if vaddr < self.at {
                    return None;
                }
                if vaddr < entry.end() {
                    self.skip(vaddr);
                    return Some(entry);
                }
                self.skip(entry.end());
            }
            let next = *self.rest.next()?;
            self.current = Some(next);
            self.at = next.vaddr;
        }
    }

    /// Passes the current entry up to `to`.
    fn skip(&mut self, to: u64) {
        if self.current.is_some_and(|entry| entry.flags.contains(PageFlags::PRESENT)) {
            self.offset = self.offset.saturating_add(to - self.at);
        }
        self.at = to;
    }
}
