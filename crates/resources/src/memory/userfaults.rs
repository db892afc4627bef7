//! Memory that is registered with userfaultfds: which of its pages are there, and which protected.
//!
//! Where a page is missing its owner waits for a handler, which waits as well while the tree stands still: so
//! nothing here, and nothing later, may touch one. What the page tables have in place of a page that was
//! write-protected before it was there (a marker) counts as swapped out in the pagemap, and is none.
//!
//! - Truth from: `pagemap_page_category` in `fs/proc/task_mmu.c`, `include/linux/swapops.h`

use dormouse_kernel::pagemap::{self, Categories, PageRegion, Pagemap, ScanQuery};
use dormouse_kernel::proc::{Smap, VmFlags};
use dormouse_kernel::userfaultfd::Modes;
use dormouse_kernel::{AddrRange, Errno};

use super::error::{Error, Result};
use super::obstacle::Obstacle;
use super::survey::{PageRun, PageTraits, push_joined};
use super::vma::{Backing, FileRange, Lock, Vma};
use crate::userfault::Registered;

/// A mapping that is registered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// Its place among all.
    pub(super) number: usize,
    modes: Modes,
    /// Bytes that smaps counts as swapped out.
    swapped: u64,
}

impl Watched {
    /// If the mapping is. `number` is its place among all.
    pub(super) fn of(smap: &Smap, number: usize) -> Option<Self> {
        let mut modes = Modes::empty();
        for (flag, mode) in [
            (VmFlags::UFFD_MISSING, Modes::MISSING),
            (VmFlags::UFFD_WP, Modes::WRITE_PROTECTED),
            (VmFlags::UFFD_MINOR, Modes::MINOR),
        ] {
            modes.set(mode, smap.flags.contains(flag));
        }
        (!modes.is_empty()).then_some(Self { number, modes, swapped: smap.swapped })
    }

    /// Whether pages of zeros differ from none.
    pub(super) fn misses_pages(self) -> bool {
        self.modes.intersects(Modes::MISSING | Modes::MINOR)
    }

    /// What keeps the mapping from being carried over.
    pub(super) fn obstacle(self, vma: &Vma) -> Option<Obstacle> {
        match vma.backing {
            Backing::Anonymous { .. }
            | Backing::SharedMemory { .. }
            | Backing::File { file: FileRange { socket: false, .. }, .. } => {}
            _ => return Some(Obstacle::UserfaultKind),
        }
        // To lock it again would ask for all of it.
        (vma.lock == Lock::All && self.misses_pages()).then_some(Obstacle::UserfaultLocked)
    }

    /// What is to be stored of the mapping, and what its userfaultfd has done to it.
    pub(super) fn survey(
        self,
        pagemap: &Pagemap,
        vma: &Vma,
        traits: PageTraits,
    ) -> Result<Result<(Registered, Vec<PageRun>), Obstacle>> {
        let Self { modes, .. } = self;
        let regions = match scan(pagemap, vma.range) {
            Err(Error::Pagemap(pagemap::Error { source: Errno::NOTTY, .. })) => {
                return Ok(Err(Obstacle::UserfaultKernel));
            }
            regions => regions?,
        };
        let regions = || regions.iter().map(|region| (region.range(), region.categories()));
        let is_swapped = |what: Categories| {
            what.contains(Categories::SWAPPED) && !what.contains(Categories::GUARD)
        };
        let swapped = regions().filter(|&(_, what)| is_swapped(what));
        let swapped: u64 = swapped.map(|(range, _)| range.len()).sum();
        // Shared pages are swapped out of their file.
        let real = if vma.is_private() { self.swapped } else { 0 };
        if real != 0 && real != swapped {
            return Ok(Err(Obstacle::UserfaultSwapped));
        }
        let range = vma.range;
        let mut registered = Registered { range, modes, protected: Vec::new(), mapped: Vec::new() };
        let mut runs = Vec::new();
        for (range, what) in regions() {
            let is_there = what.contains(Categories::PRESENT) || is_swapped(what) && real != 0;
            let is_protected = !what.contains(Categories::WRITTEN);
            if what.contains(Categories::GUARD) {
                continue;
            }
            if !is_there && !is_protected {
                return Ok(Err(Obstacle::UserfaultPoison));
            }
            if is_protected && modes.contains(Modes::WRITE_PROTECTED) {
                push_joined(&mut registered.protected, range);
            }
            if !is_there {
                continue;
            }
            if vma.is_private() && !what.contains(Categories::FILE) {
                runs.push(PageRun { range, traits });
            } else if modes.contains(Modes::MINOR) {
                push_joined(&mut registered.mapped, range);
            }
        }
        Ok(Ok((registered, runs)))
    }
}

/// All pages of a mapping, and markers.
fn scan(pagemap: &Pagemap, range: AddrRange) -> Result<Vec<PageRegion>> {
    let mut regions = Vec::new();
    let report = Categories::PRESENT | Categories::SWAPPED | Categories::WRITTEN | Categories::FILE;
    let query = ScanQuery {
        any_of: Categories::PRESENT | Categories::SWAPPED,
        report: report | Categories::GUARD,
        ..ScanQuery::default()
    };
    match pagemap.scan(range, &query, &mut regions) {
        // A kernel before 6.16, which has no word for guard pages.
        Err(pagemap::Error { source: Errno::INVAL, .. }) => {
            let query = ScanQuery { report, ..query };
            pagemap.scan(range, &query, &mut regions)?;
        }
        result => result?,
    }
    Ok(regions)
}
