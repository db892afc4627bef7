//! Writing pagemaps.

use crate::error::Result;
use crate::name::ImageName;
use crate::pagemap::{Entry, PAGE_SIZE, PageFlags, PagemapProblem};
use crate::proto::pagemap::{PagemapEntry, PagemapHead};
use crate::store::NewPart;

/// Where the contents of a run are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In the pages file.
    Here,
    /// In the pages file, and a restore may leave them there until the task first touches them.
    HereLazy,
    /// In the parent directory. (Never lazy: CRIU's `lazy-pages` does not bring pages it finds in a
    /// parent, and the task that touches one waits for ever.)
    Parent,
    /// In no file: a page server has them.
    Remote,
}

impl Stored {
    fn flags(self) -> PageFlags {
        match self {
            Self::Here => PageFlags::PRESENT,
            Self::HereLazy => PageFlags::PRESENT | PageFlags::LAZY,
            Self::Parent => PageFlags::PARENT,
            Self::Remote => PageFlags::LAZY,
        }
    }
}

/// The pagemap of a task or a shared memory object.
#[derive(Debug, Default)]
pub struct PagemapBuilder {
    entries: Vec<Entry>,
    /// Bytes the pages take in the pages file so far.
    stored: u64,
}

impl PagemapBuilder {
    /// Appends a run of pages, to the last one if it continues that. Returns the offset in the
    /// pages file, in bytes, where contents that are put there belong.
    ///
    /// # Errors
    /// When the run is not behind all others, or is none.
    pub fn push(
        &mut self,
        vaddr: u64,
        nr_pages: u64,
        stored: Stored,
    ) -> Result<u64, PagemapProblem> {
        let flags = stored.flags();
        let entry = Entry::new(vaddr, nr_pages, flags)?;
        let offset = self.stored;
        match self.entries.last_mut() {
            Some(last) if vaddr < last.end() => {
                return Err(PagemapProblem::Order { vaddr, end: last.end() });
            }
            Some(last) if vaddr == last.end() && last.flags == flags => last.nr_pages += nr_pages,
            _ => self.entries.push(entry),
        }
        self.stored += entry.stored();
        Ok(offset)
    }

    /// Bytes the pages take in the pages file.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// The messages of the image behind its head.
    pub fn messages(&self) -> impl Iterator<Item = PagemapEntry> {
        self.entries.iter().map(|entry| entry.to_message())
    }

    /// Writes the image `name`, whose pages are in `pages-PAGES_ID.img`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, part: &NewPart, name: ImageName, pages_id: u32) -> Result<()> {
        write(part, name, pages_id, self.messages())
    }
}

/// The pagemap of a task in a `parent` directory where all tasks share one pages file, so that a
/// page they have in common is stored once.
///
/// Pages of the file that are not the task's are passed by entries at address 0 that end below
/// everything the task has; see the [module's page](super) why CRIU takes that. Two things follow:
/// a task's pages must ascend in the file as they do in its memory (sort the file by address, and
/// they do), and the task must have no memory in the first page.
///
/// Such a directory must not be deduplicated by CRIU (`--auto-dedup`, `criu dedup`): it would punch
/// holes where another task still has its pages.
#[derive(Debug)]
pub struct ParentPagemap {
    /// No address is ever looked up below this.
    lowest: u64,
    entries: Vec<Entry>,
    /// End of the last run.
    end: u64,
    /// Pages of the file that are described.
    at: u64,
}

impl ParentPagemap {
    /// For a task whose lowest mapping begins at `lowest`.
    #[must_use]
    pub fn new(lowest: u64) -> Self {
        Self { lowest, entries: Vec::new(), end: lowest, at: 0 }
    }

    /// Appends a run whose contents begin at page `page` of the shared file.
    ///
    /// # Errors
    /// When the run is not behind all others both in memory and in the file, or the task's memory
    /// leaves no room for skipping pages.
    pub fn push(&mut self, vaddr: u64, nr_pages: u64, page: u64) -> Result<(), PagemapProblem> {
        let entry = self.check(vaddr, nr_pages, PageFlags::PRESENT)?;
        let mut gap = page.checked_sub(self.at).ok_or(PagemapProblem::SharedOrder {
            vaddr,
            page,
            at: self.at,
        })?;
        let filler = self.lowest / PAGE_SIZE;
        if gap > 0 && filler == 0 {
            return Err(PagemapProblem::NoRoomForFiller { lowest: self.lowest });
        }
        while gap > 0 {
            let nr_pages = gap.min(filler);
            self.entries.push(Entry { vaddr: 0, nr_pages, flags: PageFlags::PRESENT });
            gap -= nr_pages;
        }
        self.at = page + nr_pages;
        self.append(entry);
        Ok(())
    }

    /// Appends a run whose contents are in the parent of this directory.
    ///
    /// # Errors
    /// When the run is not behind all others, or is none.
    pub fn push_parent(&mut self, vaddr: u64, nr_pages: u64) -> Result<(), PagemapProblem> {
        let entry = self.check(vaddr, nr_pages, PageFlags::PARENT)?;
        self.append(entry);
        Ok(())
    }

    /// The messages of the image behind its head.
    pub fn messages(&self) -> impl Iterator<Item = PagemapEntry> {
        self.entries.iter().map(|entry| entry.to_message())
    }

    /// Writes the image `name`; the shared file is `pages-PAGES_ID.img`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, part: &NewPart, name: ImageName, pages_id: u32) -> Result<()> {
        write(part, name, pages_id, self.messages())
    }

    fn check(&self, vaddr: u64, nr_pages: u64, flags: PageFlags) -> Result<Entry, PagemapProblem> {
        let entry = Entry::new(vaddr, nr_pages, flags)?;
        if vaddr < self.end {
            return Err(PagemapProblem::Order { vaddr, end: self.end });
        }
        Ok(entry)
    }

    fn append(&mut self, entry: Entry) {
        self.end = entry.end();
        match self.entries.last_mut() {
            Some(last)
                if last.end() == entry.vaddr && last.flags == entry.flags && last.vaddr != 0 =>
            {
                last.nr_pages += entry.nr_pages;
            }
            _ => self.entries.push(entry),
        }
    }
}

fn write(
    part: &NewPart,
    name: ImageName,
    pages_id: u32,
    entries: impl Iterator<Item = PagemapEntry>,
) -> Result<()> {
    let mut writer = part.writer(name)?;
    writer.put(&PagemapHead { pages_id })?;
    for entry in entries {
        writer.put(&entry)?;
    }
    writer.finish()
}
