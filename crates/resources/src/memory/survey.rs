//! Which pages of a process are stored.
//!
//! Private memory only: pages that are in memory or swapped out and are no longer those of a file
//! (`PAGEMAP_SCAN`). The kernel's page of zeros and all that was never touched need no storing.
//! The cost is by pages there are, not by the size of the mappings: where smaps counted as many
//! pages as fit into a mapping, nothing is asked at all.

use dormouse_kernel::pagemap::{self, Categories, PageRegion, Pagemap, ScanQuery};
use dormouse_kernel::proc::Smap;
use dormouse_kernel::{Addr, AddrRange, Errno};
use rustix::mm::ProtFlags;

use super::error::{Error, Result};
use super::vdso::USER_END;
use super::vma::{Backing, Vma};

/// The pages of a process that have to be stored, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredPages {
    pub(super) runs: Vec<PageRun>,
}

/// Pages next to each other of which the same is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRun {
    pub(super) range: AddrRange,
    pub(super) traits: PageTraits,
}

/// What matters of a page besides its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PageTraits {
    /// A page of zeros need not be stored: without it there are zeros too.
    pub(super) zero_is_nothing: bool,
    /// The process may read it.
    pub(super) readable: bool,
    /// Other processes may have the very same page.
    pub(super) maybe_shared: bool,
}

impl PageTraits {
    /// Whether the page has to be read through `/proc/PID/mem`, which takes a quarter longer than
    /// `process_vm_readv(2)`.
    ///
    /// The latter keeps to the protection. And it *pins* what it reads (`FOLL_PIN`), for which the
    /// kernel first gives the process a copy of a page it shares copy-on-write
    /// (`gup_must_unshare` in `mm/gup.c`): the tree would grow while it is dumped.
    pub(super) const fn needs_mem(self) -> bool {
        !self.readable || self.maybe_shared
    }
}

impl StoredPages {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.range.pages()).sum()
    }

    /// With these in place of those in `ranges`; both ascend. Runs are within one or in none.
    pub(super) fn replace(&mut self, ranges: &[AddrRange], runs: Vec<PageRun>) {
        self.runs.retain(|run| {
            let next = ranges.partition_point(|range| range.end() <= run.range.start());
            ranges.get(next).is_none_or(|range| run.range.end() <= range.start())
        });
        self.runs.extend(runs);
        self.runs.sort_by_key(|run| run.range.start());
    }

    /// Without those in `range`: memory that is not the program's. Runs are within it or not.
    #[must_use]
    pub fn outside(mut self, range: AddrRange) -> Self {
        self.runs.retain(|run| run.range.intersection(range).is_none());
        self
    }
}

/// What smaps says of the pages of a mapping, as far as it saves work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Population {
    /// Every page is there and the process's own.
    full: bool,
    /// No page is, neither in memory nor swapped out.
    empty: bool,
    /// Some of them may be shared with other processes.
    maybe_shared: bool,
}

impl Population {
    pub(super) fn of(smap: &Smap) -> Self {
        // Of huge pages smaps does not tell which are the process's own.
        let (shared, own) = smap.hugetlb;
        let huge = shared > 0 || own > 0;
        Self {
            full: smap.anonymous == smap.vma.range.len(),
            empty: smap.anonymous == 0 && smap.swapped == 0 && !huge,
            // A page of its own is dirty as a rule. Where fewer are, some may be others' too.
            maybe_shared: smap.private_dirty < smap.anonymous || smap.swapped > 0 || huge,
        }
    }
}

impl Population {
    /// Of a page where zeros are not nothing.
    pub(super) fn traits_where_all_counts(self, vma: &Vma) -> PageTraits {
        PageTraits {
            zero_is_nothing: false,
            readable: vma.prot.contains(ProtFlags::READ),
            maybe_shared: self.maybe_shared,
        }
    }
}

/// Mappings smaller than this are scanned even if they are known to be full: a call costs as much.
const WORTH_SKIPPING: u64 = 2 << 20;

/// Finds the pages to store and the guard pages among the mappings of a process. `populations`
/// belongs to `vmas`, one by one.
pub(super) fn survey(
    pagemap: &Pagemap,
    vmas: &[Vma],
    populations: &[Population],
) -> Result<(StoredPages, Vec<AddrRange>)> {
    let mut regions = Vec::new();
    for span in spans(vmas, populations) {
        match scan(pagemap, span, &mut regions) {
            // A kernel before 6.7, which has to be asked page by page.
            Err(Error::Pagemap(pagemap::Error { source: Errno::NOTTY, .. })) => {
                let regions = walk(pagemap, vmas, populations)?;
                return Ok(sort_out(vmas, populations, &regions));
            }
            result => result?,
        }
    }
    Ok(sort_out(vmas, populations, &regions))
}

/// Finds as much as scanning does, and pages that were read and never written as well: their
/// contents tell. Only where smaps has counted any page is looked.
fn walk(pagemap: &Pagemap, vmas: &[Vma], populations: &[Population]) -> Result<Vec<PageRegion>> {
    let mut regions = Vec::new();
    for (vma, &population) in vmas.iter().zip(populations) {
        let skipped = is_skipped(vma, population) || population.empty || !vma.is_private();
        if !skipped {
            pagemap.own_pages(vma.range, &mut regions)?;
        }
    }
    Ok(regions)
}

/// Whether `vma` is full of pages that need no look at the pagemap.
fn is_skipped(vma: &Vma, population: Population) -> bool {
    population.full && vma.is_private() && vma.range.len() >= WORTH_SKIPPING
}

/// What is scanned in one call: all from one mapping that need not be to the next.
fn spans(vmas: &[Vma], populations: &[Population]) -> Vec<AddrRange> {
    let mut spans: Vec<AddrRange> = Vec::new();
    let mut open = false;
    for (vma, &population) in vmas.iter().zip(populations) {
        if vma.is_special() {
            // The kernel's own pages tell nothing, but do not break a span either.
        } else if is_skipped(vma, population) {
            open = false;
        } else if open && let Some(last) = spans.last_mut() {
            *last = AddrRange::new(last.start(), vma.range.end()).expect("mappings ascend");
        } else {
            spans.push(vma.range);
            open = true;
        }
    }
    spans
}

/// All pages of a process that may have to be stored, and its guard pages.
/// `None` from a kernel that does not scan.
pub(super) fn all_pages(pagemap: &Pagemap) -> Result<Option<Vec<PageRegion>>> {
    let user = AddrRange::new(Addr::NULL, Addr::from_raw(USER_END)).expect("they ascend");
    let mut regions = Vec::new();
    match scan(pagemap, user, &mut regions) {
        Err(Error::Pagemap(pagemap::Error { source: Errno::NOTTY, .. })) => Ok(None),
        result => result.map(|()| Some(regions)),
    }
}

fn scan(pagemap: &Pagemap, span: AddrRange, regions: &mut Vec<PageRegion>) -> Result<()> {
    let query = ScanQuery {
        all_of: Categories::PFN_ZERO | Categories::FILE,
        any_of: Categories::PRESENT | Categories::SWAPPED | Categories::GUARD,
        inverted: Categories::PFN_ZERO | Categories::FILE,
        report: Categories::GUARD,
        ..ScanQuery::default()
    };
    match pagemap.scan(span, &query, regions) {
        // A kernel before 6.16, which has no word for guard pages.
        Err(pagemap::Error { source: Errno::INVAL, .. }) => {
            let any_of = Categories::PRESENT | Categories::SWAPPED;
            let query = ScanQuery { any_of, report: Categories::empty(), ..query };
            Ok(pagemap.scan(span, &query, regions)?)
        }
        result => Ok(result?),
    }
}

/// Assigns `regions` to mappings; both ascend.
pub(super) fn sort_out(
    vmas: &[Vma],
    populations: &[Population],
    regions: &[PageRegion],
) -> (StoredPages, Vec<AddrRange>) {
    let mut pages = StoredPages::default();
    let mut guards: Vec<AddrRange> = Vec::new();
    let mut next = 0;
    for (vma, &population) in vmas.iter().zip(populations) {
        let traits = PageTraits {
            zero_is_nothing: vma.is_anonymous() || matches!(vma.backing, Backing::AioRing { .. }),
            readable: vma.prot.contains(ProtFlags::READ),
            maybe_shared: population.maybe_shared,
        };
        // The vDSO goes along whole, for a kernel that has another one; rings do, whose pages are
        // those of a file.
        let is_whole = matches!(vma.backing, Backing::Vdso | Backing::AioRing { .. });
        if is_whole || is_skipped(vma, population) {
            pages.runs.push(PageRun { range: vma.range, traits });
            continue;
        }
        while let Some(region) = regions.get(next) {
            let range = region.range();
            if range.start() >= vma.range.end() {
                break;
            }
            if let Some(range) = range.intersection(vma.range) {
                if region.categories().contains(Categories::GUARD) {
                    push_joined(&mut guards, range);
                } else if vma.is_private() {
                    pages.runs.push(PageRun { range, traits });
                }
            }
            if range.end() > vma.range.end() {
                break;
            }
            next += 1;
        }
    }
    (pages, guards)
}

/// Appends a range, to the last one if that ends where it begins.
pub(super) fn push_joined(ranges: &mut Vec<AddrRange>, range: AddrRange) {
    match ranges.last_mut() {
        Some(last) if last.end() == range.start() => {
            *last = AddrRange::new(last.start(), range.end()).expect("ranges ascend");
        }
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests;
