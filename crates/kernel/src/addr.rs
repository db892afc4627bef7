//! Addresses in other tasks.

use std::fmt;

/// The size of a page, in bytes. Every architecture dormouse runs on today
/// has pages of this size and no other.
pub const PAGE_SIZE: u64 = 4096;

/// An address in the memory of some other task. Holding one tells nothing
/// about what is mapped there, or whether anything is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr(u64);

impl Addr {
    /// Address zero.
    pub const NULL: Self = Self(0);

    /// Wraps the bare number.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The bare number.
    #[must_use]
    pub const fn as_raw(self) -> u64 {
        self.0
    }

    /// `None` when the sum does not fit.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The start of the page the address lies in.
    #[must_use]
    pub const fn page_start(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// Whether the address is the start of a page.
    #[must_use]
    pub const fn is_page_aligned(self) -> bool {
        self.0.is_multiple_of(PAGE_SIZE)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Addr({:#x})", self.0)
    }
}

/// The addresses from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrRange {
    start: Addr,
    end: Addr,
}

impl AddrRange {
    /// `None` when `end` is below `start`.
    #[must_use]
    pub const fn new(start: Addr, end: Addr) -> Option<Self> {
        if end.0 >= start.0 { Some(Self { start, end }) } else { None }
    }

    /// `None` when the end does not fit.
    #[must_use]
    pub const fn with_len(start: Addr, bytes: u64) -> Option<Self> {
        match start.checked_add(bytes) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// The first address.
    #[must_use]
    pub const fn start(self) -> Addr {
        self.start
    }

    /// The first address behind the range.
    #[must_use]
    pub const fn end(self) -> Addr {
        self.end
    }

    /// In bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether the range holds no address.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end.0 == self.start.0
    }

    /// How many pages the range touches, in whole or in part.
    #[must_use]
    pub const fn pages(self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        (self.end.0 - 1) / PAGE_SIZE - self.start.0 / PAGE_SIZE + 1
    }

    /// Whether `addr` is in the range.
    #[must_use]
    pub const fn contains(self, addr: Addr) -> bool {
        self.start.0 <= addr.0 && addr.0 < self.end.0
    }

    /// What both ranges have in common; `None` when that is nothing.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        if start < end { Some(Self { start, end }) } else { None }
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start.0, self.end.0)
    }
}

impl fmt::Debug for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddrRange({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::{Addr, AddrRange};

    fn range(start: u64, end: u64) -> AddrRange {
        AddrRange::new(Addr::from_raw(start), Addr::from_raw(end)).unwrap()
    }

    #[test]
    fn a_range_never_ends_before_it_starts() {
        assert_eq!(AddrRange::new(Addr::from_raw(2), Addr::from_raw(1)), None);
        assert_eq!(AddrRange::with_len(Addr::from_raw(u64::MAX), 1), None);
        assert!(range(7, 7).is_empty());
    }

    #[test]
    fn pages_counts_the_pages_touched() {
        assert_eq!(range(0x1000, 0x1000).pages(), 0);
        assert_eq!(range(0x1000, 0x1001).pages(), 1);
        assert_eq!(range(0x1fff, 0x2001).pages(), 2);
        assert_eq!(range(0x1000, 0x3000).pages(), 2);
    }

    #[test]
    fn ranges_that_only_touch_have_nothing_in_common() {
        assert_eq!(range(0, 5).intersection(range(5, 9)), None);
        assert_eq!(range(0, 6).intersection(range(5, 9)), Some(range(5, 6)));
    }
}
