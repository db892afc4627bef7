use super::{Mem, Operation, Position, read, read_exact, read_pages, write, write_exact};
use crate::proc::ProcDir;
use crate::sleeper::Sleeper;
use crate::{Addr, AddrRange, Errno, HostPid, PAGE_SIZE};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::io::{IoSlice, IoSliceMut};

const PAGE: usize = PAGE_SIZE as usize;

/// Fresh pages of this process, seen as another's.
struct Pages {
    start: *mut std::ffi::c_void,
    pages: usize,
}

impl Pages {
    fn new(pages: usize) -> Self {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping is at nobody else's address.
        let start = unsafe {
            mmap_anonymous(std::ptr::null_mut(), pages * PAGE, prot, MapFlags::PRIVATE).unwrap()
        };
        Self { start, pages }
    }

    fn addr(&self, page: usize) -> Addr {
        Addr::from_raw((self.start.addr() + page * PAGE) as u64)
    }

    fn range(&self, page: usize, pages: usize) -> AddrRange {
        AddrRange::new(self.addr(page), self.addr(page + pages)).unwrap()
    }

    fn fill(&self, page: usize, byte: u8) {
        // SAFETY: the page belongs to this mapping, and nothing borrows it.
        unsafe { self.start.cast::<u8>().add(page * PAGE).write_bytes(byte, PAGE) };
    }

    fn protect(&self, page: usize, prot: rustix::mm::MprotectFlags) {
        // SAFETY: as in `fill`.
        unsafe { mprotect(self.start.byte_add(page * PAGE), PAGE, prot).unwrap() };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: it is this mapping's own, and nothing borrows it.
        unsafe { munmap(self.start, self.pages * PAGE).unwrap() };
    }
}

fn me() -> HostPid {
    ProcDir::of_self().unwrap().pid()
}

#[test]
fn pieces_are_filled_one_after_the_other() {
    let pages = Pages::new(3);
    pages.fill(0, b'a');
    pages.fill(2, b'c');
    let remote = [pages.range(2, 1), pages.range(0, 1)];
    let (mut first, mut second) = ([0; PAGE / 2], [0; PAGE]);
    let mut local = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(read(me(), &remote, &mut local).unwrap(), PAGE + PAGE / 2);
    assert_eq!(first, [b'c'; PAGE / 2]);
    assert_eq!(second[..PAGE / 2], [b'c'; PAGE / 2]);
    assert_eq!(second[PAGE / 2..], [b'a'; PAGE / 2]);

    let moved = write(me(), &[pages.range(1, 1)], &[IoSlice::new(b"xy"), IoSlice::new(b"z")]);
    assert_eq!(moved.unwrap(), 3);
    let mut back = [0; 4];
    read_exact(me(), pages.addr(1), &mut back).unwrap();
    assert_eq!(&back, b"xyz\0");
}

#[test]
fn a_fault_tells_the_first_byte_not_moved() {
    let pages = Pages::new(2);
    pages.protect(1, rustix::mm::MprotectFlags::empty());
    let mut local = vec![1; 2 * PAGE];
    let moved = read(me(), &[pages.range(0, 2)], &mut [IoSliceMut::new(&mut local)]);
    assert_eq!(moved.unwrap(), PAGE);
    let error = read_exact(me(), pages.addr(0), &mut local).unwrap_err();
    assert_eq!((error.operation, error.addr), (Operation::Read, pages.addr(1)));
    assert_eq!(error.source, Errno::FAULT);
    let error = write_exact(me(), pages.addr(1), b"x").unwrap_err();
    assert_eq!((error.operation, error.source), (Operation::Write, Errno::FAULT));
    let error = read_exact(me(), Addr::from_raw(u64::MAX), &mut [0; 2]).unwrap_err();
    assert_eq!(error.source, Errno::FAULT);
}

#[test]
fn pages_that_cannot_be_read_are_holes() {
    let pages = Pages::new(8);
    for page in 0..8 {
        pages.fill(page, page as u8 + 1);
    }
    for page in [0, 3, 4, 7] {
        pages.protect(page, rustix::mm::MprotectFlags::empty());
    }
    let mut local = vec![9; 7 * PAGE];
    let ranges = [pages.range(0, 4), pages.range(4, 0), pages.range(5, 3)];
    let holes = read_pages(me(), &ranges, &mut local).unwrap();
    assert_eq!(holes, [pages.range(0, 1), pages.range(3, 1), pages.range(7, 1)]);
    let firsts: Vec<_> = local.chunks(PAGE).map(|page| page[0]).collect();
    assert_eq!(firsts, [0, 2, 3, 0, 6, 7, 0]);

    let mut local = vec![9; 2 * PAGE];
    let holes = read_pages(me(), &[pages.range(3, 2)], &mut local).unwrap();
    assert_eq!(holes, [pages.range(3, 2)]);
    assert!(local.iter().all(|&byte| byte == 0));
}

#[test]
fn more_ranges_than_one_call_takes() {
    let pages = Pages::new(3000);
    let ranges: Vec<_> = (0..3000).rev().map(|page| pages.range(page, 1)).collect();
    for page in 0..3000 {
        pages.fill(page, (page % 251) as u8);
    }
    let mut local = vec![0; 3000 * PAGE];
    assert!(read_pages(me(), &ranges, &mut local).unwrap().is_empty());
    for (index, page) in local.chunks(PAGE).enumerate() {
        assert_eq!(page[PAGE - 1], ((2999 - index) % 251) as u8);
    }
}

#[test]
fn a_batch_is_bounded_in_bytes_too() {
    let huge = |start: u64, end: u64| {
        AddrRange::new(Addr::from_raw(start << 30), Addr::from_raw(end << 30)).unwrap()
    };
    let ranges = [huge(1, 4), huge(8, 9)];
    let mut position = Position { ranges: &ranges, offset: 0 };
    let mut seen = Vec::new();
    while !position.ranges.is_empty() {
        let batch = position.batch();
        assert!(batch.iter().map(|range| range.len()).sum::<u64>() <= 1 << 30);
        position.advance(batch.iter().map(|range| range.len()).sum());
        seen.extend(batch);
    }
    assert_eq!(seen, [huge(1, 2), huge(2, 3), huge(3, 4), huge(8, 9)]);
}

#[test]
fn mem_ignores_protection() {
    let pages = Pages::new(2);
    pages.fill(0, b'a');
    pages.protect(0, rustix::mm::MprotectFlags::READ);
    let mem = Mem::open(&ProcDir::of_self().unwrap()).unwrap();
    assert_eq!(write_exact(me(), pages.addr(0), b"x").unwrap_err().source, Errno::FAULT);
    mem.write_exact(pages.addr(0), b"xyz").unwrap();
    let mut back = [0; 4];
    mem.read_exact(pages.addr(0), &mut back).unwrap();
    assert_eq!(&back, b"xyza");

    // Nothing is ever mapped at the bottom.
    let error = mem.read_exact(Addr::NULL, &mut back).unwrap_err();
    assert_eq!((error.addr, error.source), (Addr::NULL, Errno::IO));
}

#[test]
fn memory_that_is_gone_is_an_error() {
    let mut sleeper = Sleeper::start();
    let (pid, dir) = (sleeper.pid(), sleeper.dir());
    let mem = Mem::open(&dir).unwrap();
    let stack = dir.stat().unwrap().layout.start_stack;
    mem.read_exact(stack, &mut [0; 8]).unwrap();
    sleeper.reap();
    assert_eq!(mem.read_exact(stack, &mut [0; 8]).unwrap_err().source, Errno::SRCH);
    assert_eq!(read_exact(pid, stack, &mut [0; 8]).unwrap_err().source, Errno::SRCH);
}
