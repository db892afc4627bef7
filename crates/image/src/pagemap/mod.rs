//! Which pages are stored, and where.
//!
//! A pagemap is a list of runs of pages. The contents of those marked [`PageFlags::PRESENT`]
//! follow each other in `pages-ID.img` in the order of the list. Those of runs marked
//! [`PageFlags::PARENT`] are found in the same way in the directory called `parent`, and so on.
//!
//! # How CRIU looks into a parent
//!
//! It asks for addresses in ascending order and walks the parent's list forward only, adding up
//! the pages of what it passes (`seek_pagemap` in `criu/pagemap.c`, CRIU 2.0 to 4.2):
//!
//! * an entry that ends at or below the address is passed, wherever it begins;
//! * an entry that holds the address is taken;
//! * an entry that begins above the address ends the search: the page is missing.
//!
//! So entries need not ascend as long as they are only passed, and one at address 0 that ends below
//! every address of the task does nothing but skip pages of the file. With such fillers several
//! tasks can share one pages file: see [`ParentPagemap`]. The reader here follows the same rules.
//! `parent` may be a link or a directory; only `criu dump` insists on making it a link.

mod read;
#[cfg(test)]
mod tests;
mod write;

use crate::proto::pagemap::PagemapEntry;

pub(crate) use read::flagged;
pub use read::{Location, PageRun, Pagemap, PagesDir, PagesFile};
pub use write::{PagemapBuilder, ParentPagemap, Stored};

/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;

bitflags::bitflags! {
    /// What a pagemap says of a run of pages.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct PageFlags: u32 {
        /// The contents are in the parent directory.
        const PARENT = 1 << 0;
        /// The contents may be brought when the task first touches them. Without another flag they
        /// are in no file but come over the network.
        const LAZY = 1 << 1;
        /// The contents are in the pages file.
        const PRESENT = 1 << 2;
    }
}

/// A run of pages, checked: aligned, not empty, not beyond the end of the address space, and with
/// flags that go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    vaddr: u64,
    nr_pages: u64,
    flags: PageFlags,
}

impl Entry {
    fn new(vaddr: u64, nr_pages: u64, flags: PageFlags) -> Result<Self, PagemapProblem> {
        if !vaddr.is_multiple_of(PAGE_SIZE) || nr_pages == 0 {
            return Err(PagemapProblem::Unaligned { vaddr, nr_pages });
        }
        nr_pages
            .checked_mul(PAGE_SIZE)
            .and_then(|len| vaddr.checked_add(len))
            .ok_or(PagemapProblem::Overflow { vaddr, nr_pages })?;
        let source = flags & (PageFlags::PARENT | PageFlags::PRESENT);
        if flags.is_empty() || source == PageFlags::PARENT | PageFlags::PRESENT {
            return Err(PagemapProblem::Flags { vaddr, flags: flags.bits() });
        }
        Ok(Self { vaddr, nr_pages, flags })
    }

    /// Bytes; `new` made sure that they can be counted.
    fn len(self) -> u64 {
        self.nr_pages * PAGE_SIZE
    }

    fn end(self) -> u64 {
        self.vaddr + self.len()
    }

    /// Bytes it takes in the pages file.
    fn stored(self) -> u64 {
        if self.flags.contains(PageFlags::PRESENT) { self.len() } else { 0 }
    }

    fn to_message(self) -> PagemapEntry {
        PagemapEntry {
            vaddr: self.vaddr,
            // For CRIU before 4.0 and others who read this field only.
            compat_nr_pages: u32::try_from(self.nr_pages).unwrap_or(0),
            in_parent: None,
            flags: Some(self.flags.bits()),
            nr_pages: Some(self.nr_pages),
        }
    }
}

impl TryFrom<&PagemapEntry> for Entry {
    type Error = PagemapProblem;

    fn try_from(message: &PagemapEntry) -> Result<Self, PagemapProblem> {
        let PagemapEntry { vaddr, compat_nr_pages, in_parent, flags: bits, nr_pages } = *message;
        let bits = match (in_parent, bits) {
            (Some(true), bits) => bits.unwrap_or(0) | PageFlags::PARENT.bits(),
            (_, Some(bits)) => bits,
            (_, None) => PageFlags::PRESENT.bits(),
        };
        let flags =
            PageFlags::from_bits(bits).ok_or(PagemapProblem::Flags { vaddr, flags: bits })?;
        Self::new(vaddr, nr_pages.unwrap_or(compat_nr_pages.into()), flags)
    }
}

/// A pagemap that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PagemapProblem {
    /// Not a number of whole pages.
    #[error("{nr_pages} pages at {vaddr:#x} are no run of pages")]
    Unaligned {
        /// First address.
        vaddr: u64,
        /// Number of pages.
        nr_pages: u64,
    },
    /// Beyond the end of the address space.
    #[error("{nr_pages} pages at {vaddr:#x} end beyond the address space")]
    Overflow {
        /// First address.
        vaddr: u64,
        /// Number of pages.
        nr_pages: u64,
    },
    /// Flags nobody knows, or that contradict each other.
    #[error("pages at {vaddr:#x} have flags {flags:#x}")]
    Flags {
        /// First address.
        vaddr: u64,
        /// What stands there.
        flags: u32,
    },
    /// Runs that overlap or descend.
    #[error("pages at {vaddr:#x} begin before {end:#x}, where the run before them ends")]
    Order {
        /// First address.
        vaddr: u64,
        /// End of the run before.
        end: u64,
    },
    /// The parent has not what should be there.
    #[error("the page at {vaddr:#x} is not in the parent directory")]
    NotInParent {
        /// Its address.
        vaddr: u64,
    },
    /// Contents beyond the end of the pages file.
    #[error("pages at {vaddr:#x} end at byte {end} of a pages file of {len}")]
    OutOfFile {
        /// First address.
        vaddr: u64,
        /// Where their contents should end.
        end: u64,
        /// Size of the pages file.
        len: u64,
    },
    /// Directories that are their own ancestors, or too many of them.
    #[error("the chain of parent directories does not end")]
    EndlessChain,
    /// Pages of a shared pages file that cannot be put in this order.
    #[error("pages at {vaddr:#x} are at page {page} of the shared file, behind page {at}")]
    SharedOrder {
        /// First address.
        vaddr: u64,
        /// Where they are.
        page: u64,
        /// How far the file is described already.
        at: u64,
    },
    /// No room below the task's memory for an entry that skips pages.
    #[error("pages cannot be shared with a task that has memory at {lowest:#x}")]
    NoRoomForFiller {
        /// The task's lowest address.
        lowest: u64,
    },
}
