//! `PAGEMAP_SCAN`, since Linux 6.7.
#![allow(unsafe_code)]

use super::{Error, Operation, Pagemap};
use crate::sys::check;
use crate::{Addr, AddrRange, Errno, PAGE_SIZE};
use bitflags::bitflags;
use std::os::fd::AsRawFd;

bitflags! {
    /// `PAGE_IS_*`: what a page can be.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Categories: u64 {
        /// In memory registered for asynchronous write protection.
        const WP_ALLOWED = 1 << 0;
        /// Written to since it was last write-protected (or never was).
        const WRITTEN = 1 << 1;
        /// Of a file or shared anonymous.
        const FILE = 1 << 2;
        /// In memory.
        const PRESENT = 1 << 3;
        /// Swapped out.
        const SWAPPED = 1 << 4;
        /// Read, never written: the one frame of zeros.
        const PFN_ZERO = 1 << 5;
        /// Part of a huge page that is mapped as one.
        const HUGE = 1 << 6;
        /// Written to since soft-dirty bits were cleared.
        const SOFT_DIRTY = 1 << 7;
        /// A guard page. Since Linux 6.16.
        const GUARD = 1 << 8;
    }
}

/// Which pages to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanQuery {
    /// A page must be all of this.
    pub all_of: Categories,
    /// A page must be one of this at least, if there is anything.
    pub any_of: Categories,
    /// "Not" before these, for `all_of` and `any_of`. It is for the kernel to
    /// look at; what is reported is never inverted.
    pub inverted: Categories,
    /// What to tell of the pages found.
    pub report: Categories,
    /// Write-protects the pages found, in the same step
    /// (`PM_SCAN_WP_MATCHING`).
    pub write_protect: bool,
    /// Fails with `EPERM` at memory that is not registered for asynchronous
    /// write protection (`PM_SCAN_CHECK_WPASYNC`).
    pub must_be_registered: bool,
}

/// Pages next to each other of which the same is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PageRegion {
    pub(super) start: Addr,
    pub(super) end: Addr,
    pub(super) categories: Categories,
}

/// The kernel's `struct page_region`: an address is one `u64`, and so is a
/// set of categories.
const _: () = assert!(size_of::<PageRegion>() == 24 && align_of::<PageRegion>() == 8);

impl PageRegion {
    /// Where.
    #[must_use]
    pub fn range(&self) -> AddrRange {
        AddrRange::new(self.start, self.end).expect("the kernel reports ranges from low to high")
    }

    /// What was to be reported, as far as it is so.
    #[must_use]
    pub const fn categories(&self) -> Categories {
        self.categories
    }
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const PM_SCAN_WP_MATCHING: u64 = 1;
const PM_SCAN_CHECK_WPASYNC: u64 = 2;
/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong =
    3 << 30 | (size_of::<PmScanArg>() as libc::c_ulong) << 16 | (b'f' as libc::c_ulong) << 8 | 16;

/// Regions the kernel is given room for in one call: 96 KiB.
const AT_ONCE: usize = 4096;

impl Pagemap {
    /// Appends to `regions` all pages of `range` that are as asked for, from
    /// low to high. Neighbours are one region if the same is told of them.
    /// Holes in the mappings are passed over.
    ///
    /// # Errors
    ///
    /// See [`Error`]. What was appended before stays.
    pub fn scan(
        &self,
        range: AddrRange,
        query: &ScanQuery,
        regions: &mut Vec<PageRegion>,
    ) -> Result<(), Error> {
        let own = regions.len();
        let mut start = range.start();
        while start < range.end() {
            regions.reserve(AT_ONCE);
            let room = regions.spare_capacity_mut();
            let mut arg = PmScanArg {
                size: size_of::<PmScanArg>() as u64,
                flags: if query.write_protect { PM_SCAN_WP_MATCHING } else { 0 }
                    | if query.must_be_registered { PM_SCAN_CHECK_WPASYNC } else { 0 },
                start: start.as_raw(),
                end: range.end().as_raw(),
                walk_end: 0,
                vec: room.as_mut_ptr().expose_provenance() as u64,
                vec_len: room.len() as u64,
                max_pages: 0,
                category_inverted: query.inverted.bits(),
                category_mask: query.all_of.bits(),
                category_anyof_mask: query.any_of.bits(),
                return_mask: query.report.bits(),
            };
            // SAFETY: the kernel writes at most `vec_len` regions to `room`,
            // which has that many and the kernel's layout, and updates `arg`.
            let found = check(
                unsafe { libc::ioctl(self.fd.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) }.into(),
            );
            let found = match found {
                Ok(found) => found as usize,
                Err(Errno::INTR) => continue,
                Err(source) => return Err(self.failed(Operation::Scan, start, source)),
            };
            let full = found == room.len();
            let old = regions.len();
            // SAFETY: the kernel has filled in `found` regions behind `old`,
            // within the capacity; any bits are a valid region.
            unsafe { regions.set_len(old + found) };
            join(regions, own, old);
            // Only a lack of room ends a walk early. Where it did `walk_end`
            // should tell, but as the kernel collects 512 regions at a time,
            // that may be where an earlier lot ended: what is reported was
            // walked, too.
            match regions.last() {
                Some(last) if full => start = last.end.max(Addr::from_raw(arg.walk_end)),
                _ => break,
            }
        }
        // Some kernels find nothing in memory that is gone, and do not say so.
        if regions.len() == own && start < range.end() {
            let first = AddrRange::with_len(start.page_start(), PAGE_SIZE);
            self.entries(first.expect("it is in the range"), &mut Vec::new())?;
        }
        Ok(())
    }
}

/// The last region of one call and the first of the next may be one.
pub(super) fn join(regions: &mut Vec<PageRegion>, own: usize, seam: usize) {
    if seam <= own || seam >= regions.len() {
        return;
    }
    let (last, first) = (regions[seam - 1], regions[seam]);
    if last.end == first.start && last.categories == first.categories {
        regions[seam - 1].end = first.end;
        regions.remove(seam);
    }
}
