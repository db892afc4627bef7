//! The memory of real processes, stored and given to others.
//!
//! Both are puppets: the first is told what to map, so it is known what it has; the second gets it
//! from the images.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;

use dormouse_kernel::pagemap::{Categories, Frame, Pagemap, ScanQuery};
use dormouse_kernel::{Addr, AddrRange};
use dormouse_puppet::Bare;
use dormouse_resources::file::FileId;
use dormouse_resources::memory::{Access, DumpedPages, MapSource};
use stage::{
    ANON, EXEC, Open, READ, WRITE, advise, bare, call, check, contents, decode, dump, file, fork,
    make_objects, map, open_exe, plan, proc, protect, range, restore, restore_family, write,
};

#[test]
fn a_process_has_its_memory_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut open = Open::default();
    open_exe(&mut open);
    open.files.insert(FileId::from_raw(2), file(dir.path(), "library").into());
    let library = open.find(MapSource::File(FileId::from_raw(2), Access::ReadWrite));
    let puppet = &mut bare();

    // Code, constants that were relocated, data, and more data than the file has, as a program.
    let at = 0x5500_0000_0000;
    let private = libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE;
    map(puppet, range(at, 4), READ | EXEC, private, library, 0);
    map(puppet, range(at + 0x4000, 4), READ | WRITE, private, library, 0x4000);
    write(puppet, range(at + 0x4000, 1), 1);
    protect(puppet, range(at + 0x4000, 2), READ);
    write(puppet, range(at + 0x7000, 1), 2);
    map(puppet, range(at + 0x8000, 4), READ | WRITE, ANON, -1, 0);
    write(puppet, range(at + 0x9000, 2), 3);
    // A stack.
    let stack = range(0x7ff0_0000_0000, 33);
    map(puppet, stack, READ | WRITE, ANON | libc::MAP_GROWSDOWN, -1, 0);
    write(puppet, range(stack.end().as_raw() - 0x3000, 3), 4);
    // Reserved address space, of which a part is in use: an arena.
    let arena = range(0x7f00_0000_0000, 16384);
    map(puppet, arena, libc::PROT_NONE, ANON | libc::MAP_NORESERVE, -1, 0);
    protect(puppet, range(0x7f00_0000_0000, 40), READ | WRITE);
    write(puppet, range(0x7f00_0000_4000, 30), 5);
    // Memory that was written and is not to be touched any more; the kernel counts it.
    let spent = range(0x7f10_0000_0000, 8);
    map(puppet, spent, READ | WRITE, ANON, -1, 0);
    write(puppet, spent, 6);
    advise(puppet, spent, libc::MADV_DONTNEED);
    protect(puppet, spent, libc::PROT_NONE);
    // Secrets: written, then protected.
    let hidden = range(0x7f20_0000_0000, 8);
    map(puppet, hidden, READ | WRITE, ANON, -1, 0);
    write(puppet, hidden, 7);
    protect(puppet, hidden, libc::PROT_NONE);
    // Neighbours that differ in advice only.
    let advised = 0x7f30_0000_0000;
    map(puppet, range(advised, 32), READ | WRITE, ANON, -1, 0);
    write(puppet, range(advised + 0x2000, 20), 8);
    for (number, advice) in (0u64..).zip([
        libc::MADV_DONTFORK,
        libc::MADV_DONTDUMP,
        libc::MADV_WIPEONFORK,
        libc::MADV_MERGEABLE,
        libc::MADV_NOHUGEPAGE,
        libc::MADV_RANDOM,
        libc::MADV_SEQUENTIAL,
    ]) {
        advise(puppet, range(advised + number * 0x4000, 4), advice);
    }
    // Huge pages, sparse.
    let huge = range(0x7f40_0000_0000, 2048);
    map(puppet, huge, READ | WRITE, ANON, -1, 0);
    advise(puppet, huge, libc::MADV_HUGEPAGE);
    write(puppet, range(0x7f40_0020_0000, 3), 9);
    // Locked, in both ways.
    let locked = range(0x7f50_0000_0000, 8);
    map(puppet, locked, READ | WRITE, ANON, -1, 0);
    let [start, len] = [locked.start().as_raw(), locked.len() / 2];
    call(puppet, &[(libc::SYS_mlock2, [start, len, 0]), (libc::SYS_mlock2, [start + len, len, 1])]);
    write(puppet, range(start, 1), 10);
    // Guard pages.
    let guarded = range(0x7f60_0000_0000, 8);
    map(puppet, guarded, READ | WRITE, ANON, -1, 0);
    write(puppet, range(0x7f60_0000_0000, 8), 11);
    const MADV_GUARD_INSTALL: i32 = 102;
    let guards = [range(0x7f60_0000_0000, 1), range(0x7f60_0000_4000, 2)];
    for guard in guards {
        advise(puppet, guard, MADV_GUARD_INSTALL);
    }
    // A file, shared, and shared memory in two places.
    let shared = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
    map(puppet, range(0x7f70_0000_0000, 4), READ | WRITE, shared, library, 0x8000);
    map(puppet, range(0x7f70_0000_8000, 2), READ, shared, library, 0);
    let common = shared | libc::MAP_ANONYMOUS;
    map(puppet, range(0x7f80_0000_0000, 16), READ | WRITE, common, -1, 0);
    write(puppet, range(0x7f80_0000_3000, 2), 12);
    protect(puppet, range(0x7f80_0000_8000, 8), READ);
    // The kernel's own.
    let vdso = 0x7fff_0000_0000;
    call(puppet, &[(libc::SYS_arch_prctl, [0x2003, vdso])]);

    let images = dir.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let (images, counts) = dump(&mut [puppet], &open, &images);
    assert!(counts.written < 140, "{counts:?}");
    let restored = restore(&images, &mut open);
    check(puppet, &restored, &guards);

    let scanned = |puppet: &Bare| {
        let query = ScanQuery {
            all_of: Categories::GUARD,
            report: Categories::GUARD,
            ..ScanQuery::default()
        };
        let mut found = Vec::new();
        Pagemap::open(&proc(puppet)).unwrap().scan(guarded, &query, &mut found).unwrap();
        found.iter().map(|region| region.range()).collect::<Vec<_>>()
    };
    assert_eq!(scanned(&restored), guards);
    let exe = proc(&restored).exe().unwrap();
    assert_eq!(exe, std::fs::canonicalize("/bin/true").unwrap());
}

fn frames(puppet: &Bare, at: AddrRange) -> Vec<Option<Frame>> {
    let mut entries = Vec::new();
    Pagemap::open(&proc(puppet)).unwrap().entries(at, &mut entries).unwrap();
    entries.iter().map(|entry| entry.frame()).collect()
}

/// Which of the pages at `at` each two processes have in common.
fn common(family: &[Bare], at: AddrRange) -> Vec<(usize, usize, Vec<bool>)> {
    let frames: Vec<_> = family.iter().map(|puppet| frames(puppet, at)).collect();
    let pairs = (0..family.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    pairs
        .map(|(a, b)| {
            let same = frames[a].iter().zip(&frames[b]).map(|(a, b)| a.is_some() && a == b);
            (a, b, same.collect())
        })
        .collect()
}

/// A parent, two children, a child of the first, and one that has nothing in common with the rest.
fn make_family(pages: u64) -> Vec<Bare> {
    let data = range(DATA, pages);
    let mut parent = bare();
    map(&mut parent, data, READ | WRITE, ANON, -1, 0);
    write(&parent, data, 1);
    map(&mut parent, STACK, READ | WRITE, ANON | libc::MAP_GROWSDOWN, -1, 0);
    write(&parent, range(STACK.end().as_raw() - 0x4000, 4), 2);
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    map(&mut parent, SHARED, READ | WRITE, shared, -1, 0);
    call(&mut parent, &[(libc::SYS_arch_prctl, [0x2003, 0x7fff_0000_0000])]);
    let mut first = fork(&mut parent);
    write(&first, range(DATA + 0x5000, 3), 3);
    let grandchild = fork(&mut first);
    write(&grandchild, range(DATA + 0x9000, 2), 4);
    write(&first, range(DATA + 0x20000, 1), 5);
    let mut second = fork(&mut parent);
    // Its stack has grown, its data shrunk and grown.
    call(&mut second, &[(libc::SYS_munmap, [data.end().as_raw() - 0x4000, 0x4000])]);
    map(
        &mut second,
        range(STACK.start().as_raw() - 0x10000, 16),
        READ | WRITE,
        ANON | libc::MAP_GROWSDOWN,
        -1,
        0,
    );
    write(&second, range(STACK.start().as_raw() - 0x3000, 2), 6);
    advise(&mut second, range(DATA + 0x3000, 2), libc::MADV_DONTNEED);
    protect(&mut second, range(DATA, 4), READ);
    let mut other = fork(&mut parent);
    other.strip().unwrap();
    map(&mut other, range(0x4000_0000, 4), READ | WRITE, ANON, -1, 0);
    write(&other, range(0x4000_0000, 2), 7);
    vec![parent, first, second, grandchild, other]
}

const DATA: u64 = 0x5000_0000_0000;
const STACK: AddrRange = match AddrRange::with_len(Addr::from_raw(0x7000_0000_0000), 16 << 12) {
    Some(range) => range,
    None => unreachable!(),
};
const SHARED: AddrRange = match AddrRange::with_len(Addr::from_raw(0x7100_0000_0000), 4 << 12) {
    Some(range) => range,
    None => unreachable!(),
};
const PARENTS: [Option<usize>; 5] = [None, Some(0), Some(0), Some(1), Some(0)];

fn check_family(pages: u64) -> DumpedPages {
    let dir = tempfile::tempdir().unwrap();
    let mut open = Open::default();
    open_exe(&mut open);
    let mut family = make_family(pages);
    let data = range(DATA, pages);
    let before = common(&family[..4], data);
    let (images, counts) = dump(&mut family.iter_mut().collect::<Vec<_>>(), &open, dir.path());
    // Nobody has got a copy of a page by being read.
    assert_eq!(common(&family[..4], data), before);

    let (memories, files) = decode(&images, 5);
    make_objects(&images, &memories, &mut open);
    let plan = plan(&memories, &PARENTS, files);
    assert!(!plan.shares_with_parent(4));
    let restored = restore_family(&plan, &PARENTS, &open);
    for (was, is) in family.iter().zip(&restored) {
        check(was, is, &[]);
    }
    for (was, is) in before.iter().zip(common(&restored[..4], data)) {
        // A child of a child has what its parent has. What both have not, it has alone.
        if was.0 != 3 || was.1 == 1 {
            assert_eq!(*was, is);
        }
    }
    write(&restored[1], range(SHARED.start().as_raw() + 0x1000, 1), 99);
    assert_eq!(contents(&restored[0], SHARED), contents(&restored[3], SHARED));
    counts
}

#[test]
fn a_family_has_its_memory_back_and_in_common() {
    let counts = check_family(4000);
    assert!(counts.in_common > 15_000 && counts.written_in_common < 4100, "{counts:?}");
}

#[test]
fn a_small_family_has_so_from_copies() {
    let counts = check_family(50);
    assert_eq!(counts.in_common, 0);
}
