use std::collections::BTreeMap;

use proptest::prelude::*;

use super::read::resolve;
use super::*;

fn entry(vaddr: u64, nr_pages: u64, flags: PageFlags) -> Entry {
    Entry::new(vaddr * PAGE_SIZE, nr_pages, flags).unwrap()
}

fn file(vaddr: u64, nr_pages: u64, level: usize, page: u64) -> PageRun {
    let location = Location::File { level, offset: page * PAGE_SIZE };
    PageRun { vaddr: vaddr * PAGE_SIZE, nr_pages, lazy: false, location }
}

const HERE: PageFlags = PageFlags::PRESENT;
const PARENT: PageFlags = PageFlags::PARENT;
const ENDLESS: u64 = i64::MAX as u64;

#[test]
fn present_pages_follow_each_other_in_the_file() {
    let top = [entry(10, 2, HERE), entry(20, 3, HERE), entry(23, 1, HERE)];
    let runs = resolve(&[(&top, 6 * PAGE_SIZE)]).unwrap();
    assert_eq!(runs, [file(10, 2, 0, 0), file(20, 4, 0, 2)]);
}

#[test]
fn a_run_in_the_parent_is_pieced_together() {
    let top = [entry(10, 1, HERE), entry(11, 4, PARENT), entry(30, 1, PARENT)];
    let parent = [entry(8, 5, HERE), entry(13, 1, PARENT), entry(14, 9, HERE), entry(30, 2, HERE)];
    let oldest = [entry(13, 1, HERE)];
    let runs = resolve(&[(&top, ENDLESS), (&parent, ENDLESS), (&oldest, ENDLESS)]).unwrap();
    assert_eq!(
        runs,
        [
            file(10, 1, 0, 0),
            file(11, 2, 1, 3),
            file(13, 1, 2, 0),
            file(14, 1, 1, 5),
            file(30, 1, 1, 14),
        ]
    );
}

#[test]
fn fillers_in_a_parent_only_skip() {
    let top = [entry(100, 1, PARENT), entry(200, 2, PARENT)];
    let parent = [
        entry(0, 99, HERE),
        entry(0, 100, HERE),
        entry(100, 1, HERE),
        entry(0, 7, HERE),
        entry(200, 2, HERE),
    ];
    let runs = resolve(&[(&top, 0), (&parent, ENDLESS)]).unwrap();
    assert_eq!(runs, [file(100, 1, 1, 199), file(200, 2, 1, 207)]);
}

#[test]
fn a_filler_that_reaches_too_high_is_taken_for_the_page() {
    // CRIU does that too; it is why fillers are cut at the task's lowest address.
    let top = [entry(100, 1, PARENT)];
    let parent = [entry(0, 101, HERE), entry(100, 1, HERE)];
    let runs = resolve(&[(&top, 0), (&parent, ENDLESS)]).unwrap();
    assert_eq!(runs, [file(100, 1, 1, 100)]);
}

#[test]
fn pages_a_parent_has_passed_are_missing() {
    let top = [entry(100, 1, PARENT), entry(200, 1, PARENT)];
    let parent = [entry(200, 1, HERE), entry(100, 1, HERE)];
    let missing = PagemapProblem::NotInParent { vaddr: 100 * PAGE_SIZE };
    assert_eq!(resolve(&[(&top, 0), (&parent, ENDLESS)]), Err(missing));
    assert_eq!(resolve(&[(&top, 0)]), Err(missing));
}

#[test]
fn lazy_pages_without_contents_come_from_elsewhere() {
    let top = [entry(10, 1, PageFlags::LAZY), entry(11, 1, PageFlags::LAZY | HERE)];
    let runs = resolve(&[(&top, PAGE_SIZE)]).unwrap();
    assert_eq!(runs[0].location, Location::Remote);
    assert_eq!(runs[1], PageRun { lazy: true, ..file(11, 1, 0, 0) });

    let top = [entry(10, 1, PARENT)];
    let parent = [entry(10, 1, PageFlags::LAZY)];
    let missing = PagemapProblem::NotInParent { vaddr: 10 * PAGE_SIZE };
    assert_eq!(resolve(&[(&top, 0), (&parent, 0)]), Err(missing));
}

#[test]
fn nonsense_is_refused() {
    let overlap = [entry(10, 2, HERE), entry(11, 1, HERE)];
    assert!(matches!(resolve(&[(&overlap, ENDLESS)]), Err(PagemapProblem::Order { .. })));
    let short = [entry(10, 2, HERE)];
    assert!(matches!(
        resolve(&[(&short, 2 * PAGE_SIZE - 1)]),
        Err(PagemapProblem::OutOfFile { .. })
    ));
    // Lengths that add up to more than 64 bits.
    let top = [entry(1 << 50, 1, PARENT)];
    let huge = entry(0, 1 << 50, HERE);
    let parent = [huge, huge, huge, huge, huge, entry(1 << 50, 1, HERE)];
    assert!(matches!(
        resolve(&[(&top, 0), (&parent, ENDLESS)]),
        Err(PagemapProblem::OutOfFile { .. })
    ));
    for (vaddr, nr_pages, flags) in [
        (1, 1, HERE),
        (0, 0, HERE),
        (0, 1 << 52, HERE),
        (u64::MAX - 4095, 1, HERE),
        (0, u64::MAX, HERE),
        (0, 1, PageFlags::empty()),
        (0, 1, HERE | PARENT),
    ] {
        assert!(Entry::new(vaddr, nr_pages, flags).is_err(), "{vaddr:#x} {nr_pages:#x} {flags:?}");
    }
}

#[test]
fn old_forms_are_read() {
    let read = |message| Entry::try_from(&message);
    let old = PagemapEntry { vaddr: 4096, compat_nr_pages: 3, ..Default::default() };
    assert_eq!(read(old), Ok(entry(1, 3, HERE)));
    let in_parent = PagemapEntry { in_parent: Some(true), ..old };
    assert_eq!(read(in_parent), Ok(entry(1, 3, PARENT)));
    let new = PagemapEntry { nr_pages: Some(5), flags: Some(6), ..old };
    assert_eq!(read(new), Ok(entry(1, 5, HERE | PageFlags::LAZY)));
    let unknown = PagemapEntry { flags: Some(0x14), ..old };
    assert_eq!(read(unknown), Err(PagemapProblem::Flags { vaddr: 4096, flags: 0x14 }));
}

#[test]
fn the_builder_merges_what_continues() {
    let mut map = PagemapBuilder::default();
    assert_eq!(map.push(0x1000, 1, Stored::Here), Ok(0));
    assert_eq!(map.push(0x2000, 2, Stored::Here), Ok(0x1000));
    assert_eq!(map.push(0x4000, 1, Stored::Parent), Ok(0x3000));
    assert_eq!(map.push(0x5000, 1, Stored::HereLazy), Ok(0x3000));
    assert_eq!(map.push(0x7000, 1, Stored::HereLazy), Ok(0x4000));
    assert_eq!(
        map.push(0x7000, 1, Stored::Here),
        Err(PagemapProblem::Order { vaddr: 0x7000, end: 0x8000 })
    );
    assert_eq!(map.stored(), 0x5000);
    let entries: Vec<_> = map.messages().map(|m| Entry::try_from(&m).unwrap()).collect();
    let lazy = HERE | PageFlags::LAZY;
    assert_eq!(
        entries,
        [entry(1, 3, HERE), entry(4, 1, PARENT), entry(5, 1, lazy), entry(7, 1, lazy)]
    );
}

#[test]
fn a_shared_file_needs_order_and_room() {
    let mut map = ParentPagemap::new(0x1_0000);
    map.push(0x2_0000, 1, 100).unwrap();
    let problem = PagemapProblem::SharedOrder { vaddr: 0x3_0000, page: 100, at: 101 };
    assert_eq!(map.push(0x3_0000, 1, 100), Err(problem));
    let problem = PagemapProblem::Order { vaddr: 0x2_0000, end: 0x2_1000 };
    assert_eq!(map.push(0x2_0000, 1, 200), Err(problem));
    // 16 pages at most are skipped at a time: 100 pages take seven entries.
    assert_eq!(map.messages().count(), 8);
    assert!(map.messages().take(7).all(|m| m.vaddr == 0 && m.nr_pages <= Some(16)));

    let mut map = ParentPagemap::new(0);
    map.push(0x1000, 1, 0).unwrap();
    let problem = PagemapProblem::NoRoomForFiller { lowest: 0 };
    assert_eq!(map.push(0x3000, 1, 5), Err(problem));
}

/// For each page of some tasks: which of the ways to store it.
fn tasks() -> impl Strategy<Value = (u64, Vec<Vec<Option<u8>>>)> {
    (
        1..40_u64,
        prop::collection::vec(prop::collection::vec(prop::option::of(0..4_u8), 0..60), 1..4),
    )
}

proptest! {
    /// Tasks whose pages are partly their own, partly in a file they share, partly in the
    /// directory below that: each page is found where it was put.
    #[test]
    fn pages_are_found_where_they_were_put((lowest, tasks) in tasks()) {
        // A page of the shared file for every address some task shares.
        let mut shared = BTreeMap::new();
        for task in &tasks {
            for (i, _) in task.iter().enumerate().filter(|(_, way)| **way == Some(1)) {
                shared.insert(lowest + i as u64, 0);
            }
        }
        for (page, slot) in shared.values_mut().enumerate() {
            *slot = page as u64;
        }
        for task in &tasks {
            let mut top = PagemapBuilder::default();
            let mut cow = ParentPagemap::new(lowest * PAGE_SIZE);
            let mut old = PagemapBuilder::default();
            let mut expected = Vec::new();
            for (i, way) in task.iter().enumerate() {
                let Some(way) = *way else { continue };
                let page = lowest + i as u64;
                let vaddr = page * PAGE_SIZE;
                let (lazy, location) = match way {
                    0 => (true, Location::File {
                        level: 0, offset: top.push(vaddr, 1, Stored::HereLazy).unwrap() }),
                    1 => {
                        top.push(vaddr, 1, Stored::Parent).unwrap();
                        cow.push(vaddr, 1, shared[&page]).unwrap();
                        (false, Location::File { level: 1, offset: shared[&page] * PAGE_SIZE })
                    }
                    2 => {
                        top.push(vaddr, 1, Stored::Parent).unwrap();
                        cow.push_parent(vaddr, 1).unwrap();
                        let offset = old.push(vaddr, 1, Stored::Here).unwrap();
                        (false, Location::File { level: 2, offset })
                    }
                    _ => {
                        // The parent may have pages that are not asked for.
                        old.push(vaddr, 1, Stored::Here).unwrap();
                        top.push(vaddr, 1, Stored::Remote).unwrap();
                        (true, Location::Remote)
                    }
                };
                expected.push((vaddr, lazy, location));
            }
            let decode = |messages: &mut dyn Iterator<Item = PagemapEntry>| {
                messages.map(|m| Entry::try_from(&m).unwrap()).collect::<Vec<_>>()
            };
            let levels = [
                decode(&mut top.messages()),
                decode(&mut cow.messages()),
                decode(&mut old.messages()),
            ];
            let sizes = [top.stored(), shared.len() as u64 * PAGE_SIZE, old.stored()];
            let levels: Vec<_> = levels.iter().zip(sizes).map(|(e, len)| (&**e, len)).collect();
            let runs = resolve(&levels).unwrap();
            let found: Vec<_> = runs.iter().flat_map(|run| (0..run.nr_pages).map(|i| {
                let location = match run.location {
                    Location::File { level, offset } =>
                        Location::File { level, offset: offset + i * PAGE_SIZE },
                    Location::Remote => Location::Remote,
                };
                (run.vaddr + i * PAGE_SIZE, run.lazy, location)
            })).collect();
            prop_assert_eq!(found, expected);
        }
    }

    /// Whatever the levels say: no panic, and what is found lies within its file.
    #[test]
    fn what_is_found_is_within_the_files(
        levels in prop::collection::vec(
            (prop::collection::vec((0..50_u64, 1..20_u64, 1..7_u32), 0..12), 0..60_u64), 1..4)
    ) {
        let levels: Vec<_> = levels.into_iter().map(|(entries, len)| {
            let entries: Vec<_> = entries.into_iter()
                .filter_map(|(vaddr, n, flags)| Entry::new(
                    vaddr * PAGE_SIZE, n, PageFlags::from_bits_truncate(flags)).ok())
                .collect();
            (entries, len * PAGE_SIZE)
        }).collect();
        let views: Vec<_> = levels.iter().map(|(entries, len)| (&**entries, *len)).collect();
        if let Ok(runs) = resolve(&views) {
            let mut end = 0;
            for run in runs {
                prop_assert!(run.vaddr >= end);
                end = run.vaddr + run.nr_pages * PAGE_SIZE;
                if let Location::File { level, offset } = run.location {
                    prop_assert!(offset + run.nr_pages * PAGE_SIZE <= views[level].1);
                }
            }
        }
    }
}
