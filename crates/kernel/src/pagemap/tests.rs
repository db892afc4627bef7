use super::{Categories, PageEntry, PageRegion, Pagemap, ScanQuery};
use crate::proc::ProcDir;
use crate::sleeper::Sleeper;
use crate::{Addr, AddrRange, Errno, PAGE_SIZE};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

const PAGE: usize = PAGE_SIZE as usize;

/// Fresh small pages of this process.
struct Pages(*mut u8, usize);

impl Pages {
    fn new(pages: usize) -> Self {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE;
        // SAFETY: a new mapping is at nobody else's address, and advice does
        // not change what is in it.
        let start = unsafe {
            let start = mmap_anonymous(std::ptr::null_mut(), pages * PAGE, prot, flags).unwrap();
            let advice = rustix::mm::Advice::LinuxNoHugepage;
            rustix::mm::madvise(start, pages * PAGE, advice).unwrap();
            start
        };
        Self(start.cast(), pages)
    }

    fn write(&self, page: usize) {
        // SAFETY: it is a page of this mapping, and nothing borrows it.
        unsafe { self.0.add(page * PAGE).write_volatile(1) };
    }

    fn read(&self, page: usize) {
        // SAFETY: as above.
        unsafe { self.0.add(page * PAGE).read_volatile() };
    }

    fn range(&self, from: usize, to: usize) -> AddrRange {
        let addr = |page| Addr::from_raw((self.0.addr() + page * PAGE) as u64);
        AddrRange::new(addr(from), addr(to)).unwrap()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: it is this mapping's own, and nothing borrows it.
        unsafe { munmap(self.0.cast(), self.1 * PAGE).unwrap() };
    }
}

fn mine() -> Pagemap {
    Pagemap::open(&ProcDir::of_self().unwrap()).unwrap()
}

fn scan(range: AddrRange, query: &ScanQuery) -> Vec<(AddrRange, Categories)> {
    let mut regions = Vec::new();
    mine().scan(range, query, &mut regions).unwrap();
    regions.iter().map(|region| (region.range(), region.categories())).collect()
}

#[test]
fn a_scan_tells_written_pages_from_read_ones() {
    let pages = Pages::new(10);
    for page in [2, 3, 7] {
        pages.write(page);
    }
    pages.read(5);
    let seen = Categories::PRESENT | Categories::PFN_ZERO;
    let query = ScanQuery { any_of: Categories::PRESENT, report: seen, ..ScanQuery::default() };
    assert_eq!(
        scan(pages.range(0, 10), &query),
        [
            (pages.range(2, 4), Categories::PRESENT),
            (pages.range(5, 6), seen),
            (pages.range(7, 8), Categories::PRESENT),
        ]
    );
    let query = ScanQuery { all_of: seen, inverted: Categories::PFN_ZERO, ..query };
    let found: Vec<_> = scan(pages.range(0, 10), &query).iter().map(|found| found.0).collect();
    assert_eq!(found, [pages.range(2, 4), pages.range(7, 8)]);
}

#[test]
fn regions_that_take_several_calls_are_all_there() {
    // Every other page, and two in a row at the end: more than one call
    // has room for, and a seam that must not show.
    let pages = Pages::new(20_000);
    for page in (0..20_000).step_by(2) {
        pages.write(page);
    }
    pages.write(19_999);
    let query = ScanQuery {
        all_of: Categories::PRESENT,
        report: Categories::PRESENT,
        ..ScanQuery::default()
    };
    let found = scan(pages.range(0, 20_000), &query);
    assert_eq!(found.len(), 10_000);
    for (index, (range, _)) in found[..9_999].iter().enumerate() {
        assert_eq!(*range, pages.range(2 * index, 2 * index + 1));
    }
    assert_eq!(found[9_999].0, pages.range(19_998, 20_000));
}

#[test]
fn a_seam_is_joined_but_not_with_an_older_result() {
    let region = |start, end| PageRegion {
        start: Addr::from_raw(start),
        end: Addr::from_raw(end),
        categories: Categories::PRESENT,
    };
    let mut regions = vec![region(0, 1), region(1, 2), region(2, 3)];
    super::scan::join(&mut regions, 1, 1);
    assert_eq!(regions.len(), 3);
    super::scan::join(&mut regions, 0, 2);
    assert_eq!(regions, [region(0, 1), region(1, 3)]);
}

#[test]
fn a_category_nobody_knows_is_refused() {
    let pages = Pages::new(1);
    let query = ScanQuery { all_of: Categories::from_bits_retain(1 << 60), ..ScanQuery::default() };
    let error = mine().scan(pages.range(0, 1), &query, &mut Vec::new()).unwrap_err();
    assert_eq!((error.addr, error.source), (pages.range(0, 1).start(), Errno::INVAL));
}

#[test]
fn entries_show_the_frame() {
    let pages = Pages::new(5000);
    pages.write(1);
    pages.read(2);
    pages.read(4999);
    let mut entries = Vec::new();
    mine().entries(pages.range(0, 5000), &mut entries).unwrap();
    assert_eq!(entries.len(), 5000);
    assert!(!entries[0].is_present() && entries[0].frame().is_none());
    assert!(entries[1].is_present() && entries[1].is_exclusive());
    assert!(!entries[1].is_file_or_shared() && !entries[1].is_swapped());
    // The frame of zeros, twice.
    assert_eq!(entries[2].frame(), entries[4999].frame());
    assert!(entries[2].frame().is_some());
    assert_ne!(entries[1].frame(), entries[2].frame());
}

#[test]
fn entries_find_what_a_scan_finds() {
    // More than are read at once, with pages written on both sides of each seam.
    let pages = Pages::new((1 << 20) + 5);
    for page in [0, 1, 7, (1 << 19) - 1, 1 << 19, (1 << 20) + 4] {
        pages.write(page);
    }
    let range = pages.range(0, (1 << 20) + 5);
    let mut walked = Vec::new();
    mine().own_pages(range, &mut walked).unwrap();
    let walked: Vec<_> = walked.iter().map(|found| (found.range(), found.categories())).collect();
    let query = ScanQuery {
        all_of: Categories::FILE,
        any_of: Categories::PRESENT | Categories::SWAPPED,
        inverted: Categories::FILE,
        ..ScanQuery::default()
    };
    assert_eq!(walked, scan(range, &query));
    assert_eq!(walked.len(), 4);
}

#[test]
fn pages_of_files_are_nobodys_own() {
    let dir = ProcDir::of_self().unwrap();
    let program = dir.stat().unwrap().layout.code.0.page_start();
    let page = AddrRange::with_len(program, PAGE_SIZE).unwrap();
    let mut found = Vec::new();
    mine().own_pages(page, &mut found).unwrap();
    assert_eq!(found, []);
}

#[test]
fn the_bits_of_an_entry() {
    let swapped = PageEntry::from_raw(1 << 62 | 5 << 5 | 3);
    let slot = swapped.swap_slot().unwrap();
    assert_eq!((slot.area, slot.offset, swapped.frame()), (3, 5, None));
    let guard = PageEntry::from_raw(1 << 58);
    assert!(guard.is_guard() && !guard.is_present() && guard.swap_slot().is_none());
    let hidden = PageEntry::from_raw(1 << 63 | 1 << 61);
    assert!(hidden.is_present() && hidden.is_file_or_shared() && hidden.frame().is_none());
}

#[test]
fn memory_that_is_gone_is_an_error() {
    let mut sleeper = Sleeper::start();
    let dir = sleeper.dir();
    let stack = dir.stat().unwrap().layout.start_stack.page_start();
    let range = AddrRange::with_len(stack, PAGE_SIZE).unwrap();
    let pagemap = Pagemap::open(&dir).unwrap();
    let mut entries = Vec::new();
    pagemap.entries(range, &mut entries).unwrap();
    assert!(entries[0].is_present());
    sleeper.reap();
    let gone = pagemap.entries(range, &mut entries).unwrap_err();
    assert_eq!(gone.source, Errno::SRCH);
    let query = ScanQuery { all_of: Categories::PRESENT, ..ScanQuery::default() };
    let gone = pagemap.scan(range, &query, &mut Vec::new()).unwrap_err();
    assert_eq!(gone.source, Errno::SRCH);
}
