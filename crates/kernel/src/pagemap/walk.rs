//! Finding pages by their entries, for kernels without `PAGEMAP_SCAN`.

use super::{Categories, Error, PageEntry, PageRegion, Pagemap};
use crate::{Addr, AddrRange, PAGE_SIZE};

/// Entries read before any is looked at: 4 MiB of them at most, whatever the size of the range.
const AT_ONCE: u64 = 512 << 10;

impl Pagemap {
    /// Appends to `regions` the pages of `range` that are of no file and not shared: in memory or
    /// swapped out (no categories), or guard pages. What was read and never written is among
    /// them, for an entry does not tell the frame of zeros. The cost is by the size of the range.
    ///
    /// # Errors
    ///
    /// See [`Error`]. What was appended before stays.
    pub fn own_pages(&self, range: AddrRange, regions: &mut Vec<PageRegion>) -> Result<(), Error> {
        let own = regions.len();
        let mut entries = Vec::new();
        let mut start = range.start().page_start();
        while start < range.end() {
            let left = (range.end().as_raw() - start.as_raw()).div_ceil(PAGE_SIZE);
            let len = left.min(AT_ONCE) * PAGE_SIZE;
            let part = AddrRange::with_len(start, len).expect("within the range");
            entries.clear();
            self.entries(part, &mut entries)?;
            for (&entry, at) in entries.iter().zip((start.as_raw()..).step_by(PAGE_SIZE as usize)) {
                let Some(categories) = told(entry) else { continue };
                let (start, end) = (Addr::from_raw(at), Addr::from_raw(at + PAGE_SIZE));
                match regions[own..].last_mut() {
                    Some(last) if last.end == start && last.categories == categories => {
                        last.end = end;
                    }
                    _ => regions.push(PageRegion { start, end, categories }),
                }
            }
            start = part.end();
        }
        Ok(())
    }
}

/// What is told of a page, if anything.
fn told(entry: PageEntry) -> Option<Categories> {
    if entry.is_guard() {
        return Some(Categories::GUARD);
    }
    let there = entry.is_present() || entry.is_swapped();
    (there && !entry.is_file_or_shared()).then_some(Categories::empty())
}
