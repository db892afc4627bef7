//! The 64 bits of one page.

use super::{Error, Operation, Pagemap};
use crate::{AddrRange, Errno, PAGE_SIZE};
use std::fmt;

/// The number of a frame of physical memory. Two pages with the same one are
/// one and the same memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(u64);

impl Frame {
    /// The bare number, the physical address divided by the page size.
    #[must_use]
    pub const fn as_raw(self) -> u64 {
        self.0
    }
}

/// Where a page is swapped out to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwapSlot {
    /// Which swap area.
    pub area: u8,
    /// Which page in it.
    pub offset: u64,
}

/// What is behind one page (`Documentation/admin-guide/mm/pagemap.rst`).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PageEntry(u64);

impl PageEntry {
    const BITS_0_TO_54: u64 = (1 << 55) - 1;

    const fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    /// From the kernel's bits.
    #[must_use]
    pub const fn from_raw(bits: u64) -> Self {
        Self(bits)
    }

    /// The kernel's bits.
    #[must_use]
    pub const fn as_raw(self) -> u64 {
        self.0
    }

    /// In memory.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.bit(63)
    }

    /// Swapped out, or being moved between frames.
    #[must_use]
    pub const fn is_swapped(self) -> bool {
        self.bit(62)
    }

    /// Of a file or shared anonymous; not so a private copy of a file's page.
    /// For memory mapped shared that is neither present nor swapped this is
    /// not set.
    #[must_use]
    pub const fn is_file_or_shared(self) -> bool {
        self.bit(61)
    }

    /// A guard page (`MADV_GUARD_INSTALL`), which faults. Since Linux 6.15.
    #[must_use]
    pub const fn is_guard(self) -> bool {
        self.bit(58)
    }

    /// Write-protected by userfaultfd.
    #[must_use]
    pub const fn is_uffd_protected(self) -> bool {
        self.bit(57)
    }

    /// Mapped in this place only.
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        self.bit(56)
    }

    /// Written to since soft-dirty bits were cleared. Never set if the kernel
    /// has none.
    #[must_use]
    pub const fn is_soft_dirty(self) -> bool {
        self.bit(55)
    }

    /// The frame; `None` if the page is not present, or the caller may not
    /// know.
    #[must_use]
    pub const fn frame(self) -> Option<Frame> {
        match self.0 & Self::BITS_0_TO_54 {
            0 => None,
            frame if self.is_present() => Some(Frame(frame)),
            _ => None,
        }
    }

    /// Where it is swapped out to; `None` if it is not. All zero if the caller
    /// may not know.
    #[must_use]
    pub const fn swap_slot(self) -> Option<SwapSlot> {
        if !self.is_swapped() {
            return None;
        }
        let slot = self.0 & Self::BITS_0_TO_54;
        Some(SwapSlot { area: (slot & 0x1f) as u8, offset: slot >> 5 })
    }
}

impl fmt::Debug for PageEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageEntry({:#x})", self.0)
    }
}

impl Pagemap {
    /// Appends to `entries` one entry for each page that `range` touches.
    ///
    /// # Errors
    ///
    /// [`Error`], also (`ESRCH`) if the memory is gone or the range reaches
    /// into the kernel's half, where there are no entries. What was appended
    /// before stays.
    pub fn entries(&self, range: AddrRange, entries: &mut Vec<PageEntry>) -> Result<(), Error> {
        const ENTRY: usize = size_of::<u64>();
        const AT_ONCE: u64 = 4096;
        let first = range.start().as_raw() / PAGE_SIZE;
        let mut buffer = [0; AT_ONCE as usize * ENTRY];
        entries.reserve(usize::try_from(range.pages()).unwrap_or_default());
        let mut done = 0;
        while done < range.pages() {
            let len = (range.pages() - done).min(AT_ONCE) as usize * ENTRY;
            let position = (first + done) * ENTRY as u64;
            let addr = range.start().page_start().checked_add(done * PAGE_SIZE);
            let failed =
                |source| self.failed(Operation::Read, addr.unwrap_or(range.start()), source);
            match rustix::io::pread(&self.fd, &mut buffer[..len], position) {
                Ok(0) => return Err(failed(Errno::SRCH)),
                Ok(bytes) => {
                    let (words, _) = buffer[..bytes].as_chunks::<ENTRY>();
                    entries.extend(words.iter().map(|&word| PageEntry(u64::from_ne_bytes(word))));
                    done += words.len() as u64;
                }
                Err(Errno::INTR) => {}
                Err(source) => return Err(failed(source)),
            }
        }
        Ok(())
    }
}
