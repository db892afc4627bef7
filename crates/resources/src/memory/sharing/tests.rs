use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::memory::samples::pages;

const TRAITS: PageTraits = PageTraits { zero_is_nothing: true, readable: true, maybe_shared: true };

/// One process: which frame is behind each page.
type Model = BTreeMap<u64, u64>;

fn stored(model: &Model) -> StoredPages {
    let mut ranges = Vec::new();
    for &page in model.keys() {
        push_joined(&mut ranges, pages(page, 1));
    }
    let run = |range| PageRun { range, traits: TRAITS };
    StoredPages { runs: ranges.into_iter().map(run).collect() }
}

fn find(models: &[Model]) -> SharedPages {
    let processes: Vec<_> = models.iter().map(stored).collect();
    SharedPages::find(&processes, |process, range, entries| {
        let first = range.start().as_raw() / PAGE_SIZE;
        entries.extend((first..first + range.pages()).map(
            |page| match models[process].get(&page) {
                Some(frame) => PageEntry::from_raw(1 << 63 | frame),
                None => PageEntry::from_raw(0),
            },
        ));
        Ok(())
    })
    .unwrap()
}

fn check(models: &[Model]) -> Result<(), TestCaseError> {
    let shared = find(models);
    // What the frames say: each page that two have in common, with all that have it.
    let mut expected = BTreeSet::new();
    let addresses: BTreeSet<u64> = models.iter().flat_map(|model| model.keys().copied()).collect();
    for page in addresses {
        let mut by_frame: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (process, model) in models.iter().enumerate() {
            if let Some(&frame) = model.get(&page) {
                by_frame.entry(frame).or_default().push(process);
            }
        }
        let several = |members: &Vec<usize>| members.len() > 1;
        expected.extend(by_frame.into_values().filter(several).map(|members| (page, members)));
    }
    let mut found = BTreeSet::new();
    for group in &shared.groups {
        let first = group.range.start().as_raw() / PAGE_SIZE;
        for page in first..first + group.range.pages() {
            prop_assert!(found.insert((page, shared.members(group).to_vec())));
        }
    }
    prop_assert_eq!(&found, &expected);
    prop_assert!(shared.groups.is_sorted_by_key(|group| group.range.start()));

    // Private and shared pages together are all pages, each once.
    let processes: Vec<_> = models.iter().map(stored).collect();
    let private = shared.private(processes);
    let mut total = 0;
    for (process, model) in models.iter().enumerate() {
        let mut all: BTreeMap<u64, u64> = BTreeMap::new();
        let groups = shared.groups.iter().filter(|group| shared.members(group).contains(&process));
        let ranges = groups.map(|group| group.range);
        for range in ranges.chain(private[process].runs.iter().map(|run| run.range)) {
            for page in 0..range.pages() {
                *all.entry(range.start().as_raw() / PAGE_SIZE + page).or_default() += 1;
            }
        }
        prop_assert!(all.values().all(|&count| count == 1));
        prop_assert!(all.keys().eq(model.keys()));
        total += model.len() as u64;
    }
    let once: u64 = shared.groups.iter().map(|group| group.range.pages()).sum();
    let alone: u64 = private.iter().map(StoredPages::count).sum();
    prop_assert_eq!(total - shared.saved(), once + alone);
    Ok(())
}

#[test]
fn a_family_is_one_group() {
    let family: Model = (0x7000..0xb000).map(|page| (page, page + 1)).collect();
    let shared = find(&vec![family; 5]);
    let ranges: Vec<_> = shared.groups.iter().map(|group| group.range.pages()).collect();
    // Cut at windows only.
    assert_eq!(ranges.iter().sum::<u64>(), 0x4000);
    assert!(ranges.len() <= 4, "{ranges:?}");
    assert_eq!(shared.members(&shared.groups[0]), [0, 1, 2, 3, 4]);
}

#[test]
fn nothing_is_asked_of_pages_that_cannot_be_shared() {
    let model: Model = (16..32).map(|page| (page, page)).collect();
    let mut alone = stored(&model);
    for run in &mut alone.runs {
        run.traits.maybe_shared = false;
    }
    let shared = SharedPages::find(&[alone, stored(&model)], |_, _, _| unreachable!()).unwrap();
    assert_eq!(shared, SharedPages::default());
}

#[test]
fn an_exclusive_page_or_one_without_a_number_is_not_shared() {
    let cell = |raw| Cell::new(PageEntry::from_raw(raw), TRAITS).key;
    assert_eq!(cell(1 << 63 | 1 << 56 | 5), 0);
    assert_eq!(cell(1 << 63), 0);
    assert_eq!(cell(1 << 62), 0);
    assert_ne!(cell(1 << 63 | 5), 0);
    // A swap slot is not the frame of the same number.
    assert_ne!(cell(1 << 62 | 5), cell(1 << 63 | 5));
}

proptest! {
    #[test]
    fn shared_pages_are_found_as_the_frames_say(
        models in prop::collection::vec(
            prop::collection::btree_map(0..200u64, 1..4u64, 0..150),
            0..6,
        ),
        far in 0..3u64,
    ) {
        // Spread over several windows.
        let spread = |page: u64| page + page / 50 * far * 5000;
        let models: Vec<Model> = models
            .into_iter()
            .map(|model| model.into_iter().map(|(page, frame)| (spread(page), frame)).collect())
            .collect();
        check(&models)?;
    }
}
