use dormouse_kernel::{Addr, PAGE_SIZE};
use proptest::prelude::*;

use super::*;
use crate::memory::samples::{anonymous, pages, private_file, shared_memory};

const SCANNED: Population = Population { full: false, empty: false, maybe_shared: true };
const FULL: Population = Population { full: true, empty: false, maybe_shared: false };

fn big(page: u64) -> Vma {
    anonymous(pages(page, WORTH_SKIPPING / PAGE_SIZE))
}

#[test]
fn full_mappings_are_not_scanned() {
    let small = |page| anonymous(pages(page, 4));
    let vdso = Vma { backing: Backing::Vdso, ..small(3000) };
    let vmas =
        [small(16), small(20), big(1024), small(2000), vdso, private_file(pages(3004, 1), 1, 0)];
    let populations = [FULL, SCANNED, FULL, SCANNED, SCANNED, SCANNED];
    assert_eq!(spans(&vmas, &populations), [pages(16, 8), pages(2000, 1005)]);
    let (stored, guards) = sort_out(&vmas, &populations, &[]);
    // The full one and the vDSO, though no region names them.
    let ranges: Vec<_> = stored.runs.iter().map(|run| run.range).collect();
    assert_eq!(ranges, [big(1024).range, pages(3000, 4)]);
    assert!(guards.is_empty());
}

#[test]
fn only_private_memory_is_stored() {
    assert!(!is_skipped(&Vma { range: big(0).range, ..shared_memory(pages(0, 1), 1, 0) }, FULL));
    assert!(is_skipped(&big(0), FULL));
    assert!(!is_skipped(&big(0), SCANNED));
}

/// Real pages of this process: reading of a region's bounds as the kernel gives them.
#[test]
fn the_pages_of_this_process_are_found() {
    use dormouse_kernel::proc::ProcDir;
    let proc = ProcDir::of_self().unwrap();
    let pagemap = Pagemap::open(&proc).unwrap();
    // 16 pages in the middle of a fresh buffer that is otherwise untouched.
    let buffer = vec![0u8; 64 << 20];
    let start = std::ptr::from_ref(&buffer[32 << 20]).addr() as u64;
    let start = Addr::from_raw(start + PAGE_SIZE).page_start();
    let mut buffer = buffer;
    buffer[(32 << 20) + PAGE_SIZE as usize..][..16 * PAGE_SIZE as usize].fill(1);
    let touched = AddrRange::with_len(start, 16 * PAGE_SIZE).unwrap();
    let around =
        AddrRange::with_len(Addr::from_raw(start.as_raw() - (16 << 20)), 32 << 20).unwrap();
    let (stored, _) = survey(&pagemap, &[anonymous(around)], &[SCANNED]).unwrap();
    let found: u64 = stored.count();
    assert!((16..=17).contains(&found), "{stored:?}");
    assert!(stored.runs.iter().any(|run| run.range.intersection(touched).is_some()));
    // Beside the reading of smaps.
    let all = all_pages(&pagemap).unwrap().expect("this kernel scans");
    assert_eq!(sort_out(&[anonymous(around)], &[SCANNED], &all).0, stored);
    // As on a kernel that cannot scan.
    let walked = walk(&pagemap, &[anonymous(around)], &[SCANNED]).unwrap();
    assert_eq!(sort_out(&[anonymous(around)], &[SCANNED], &walked).0, stored);
    let empty = Population { empty: true, ..SCANNED };
    assert!(walk(&pagemap, &[anonymous(around)], &[empty]).unwrap().is_empty());
    assert!(buffer.iter().filter(|&&byte| byte == 1).count() == 16 * PAGE_SIZE as usize);
}

proptest! {
    #[test]
    fn joined_ranges_hold_the_same_pages(gaps in prop::collection::vec((0..3u64, 1..4u64), 0..20)) {
        let mut joined = Vec::new();
        let mut at = 0;
        let mut all = Vec::new();
        for (gap, len) in gaps {
            let range = pages(at + gap, len);
            at += gap + len;
            push_joined(&mut joined, range);
            all.extend((range.start().as_raw()..range.end().as_raw()).step_by(4096));
        }
        prop_assert!(joined.is_sorted_by(|a, b| a.end() < b.start()));
        let again: Vec<u64> = joined
            .iter()
            .flat_map(|range| (range.start().as_raw()..range.end().as_raw()).step_by(4096))
            .collect();
        prop_assert_eq!(again, all);
    }
}
