use std::collections::BTreeMap;

use dormouse_kernel::PAGE_SIZE;
use proptest::prelude::*;

use super::*;
use crate::memory::samples::{self, anonymous, pages, private_file, shared_memory};

/// Far from all else.
fn room() -> AddrRange {
    pages(1 << 20, 16)
}

/// An address space as a list of pages, with what the kernel would say of each.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    /// The mapping cut to the page, and when it was mapped (0: before).
    pages: BTreeMap<u64, (Vma, usize)>,
}

impl Model {
    fn of(vmas: &[Vma]) -> Self {
        let mut model = Self::default();
        vmas.iter().for_each(|vma| model.map(vma, 0));
        model
    }

    fn numbers(range: AddrRange) -> std::ops::Range<u64> {
        range.start().as_raw() / PAGE_SIZE..range.end().as_raw() / PAGE_SIZE
    }

    fn map(&mut self, vma: &Vma, time: usize) {
        for page in Self::numbers(vma.range) {
            let old = self.pages.insert(page, (vma.cut(pages(page, 1)), time));
            assert!(old.is_none(), "page {page} is mapped twice");
        }
    }

    fn run(&mut self, steps: &[MapStep]) {
        for (time, step) in steps.iter().enumerate() {
            match step {
                MapStep::Unmap(range) => {
                    assert!(range.intersection(room()).is_none());
                    for page in Self::numbers(*range) {
                        self.pages.remove(&page);
                    }
                }
                MapStep::Map(vma) => self.map(vma, time + 1),
                MapStep::Extend(range) => {
                    let last = range.start().as_raw() / PAGE_SIZE - 1;
                    let (vma, _) = self.pages[&last].clone();
                    // What follows, the mapping goes on with.
                    self.map(&vma.cut(*range), time + 1);
                }
                MapStep::Protect(range, prot) => {
                    for page in Self::numbers(*range) {
                        self.pages.get_mut(&page).expect("it is mapped").0.prot = *prot;
                    }
                }
                MapStep::Advise(range, advice) => {
                    for page in Self::numbers(*range) {
                        self.pages.get_mut(&page).expect("it is mapped").0.advice = *advice;
                    }
                }
                other => panic!("{other:?} is not for here"),
            }
        }
    }

    /// Whatever differs in the image only, or cannot be changed and does not matter.
    fn forget(mut self) -> Self {
        for (vma, _) in self.pages.values_mut() {
            vma.traits -= Traits::ACCOUNTED;
            if let Backing::Anonymous { heap } = &mut vma.backing {
                *heap = false;
            }
        }
        self
    }
}

fn working(vmas: &[Vma]) -> Vec<Vma> {
    vmas.iter().map(Vma::working).collect()
}

fn check(current: &[Vma], target: &[Vma]) -> Result<(), TestCaseError> {
    let (current, target) = (working(current), working(target));
    let transition = transition(&current, &target, room());
    let mut model = Model::of(&current);
    model.run(&transition.unmaps);
    model.run(&transition.steps);
    let model = model.forget();
    let expected = Model::of(&target).forget();
    prop_assert!(model.pages.keys().eq(expected.pages.keys()));
    for (page, (vma, time)) in &model.pages {
        prop_assert_eq!(&vma, &&expected.pages[page].0, "page {}", page);
        let kept = transition.kept.iter().any(|range| range.contains(vma.range.start()));
        prop_assert_eq!(kept, *time == 0, "page {}", page);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_layout_becomes_any_other(
        current in samples::mappings(16, 12),
        target in samples::mappings(16, 12),
    ) {
        check(&current, &target)?;
    }

    /// Layouts that have much in common: each mapping is cut, moved a little, or changed.
    #[test]
    fn a_layout_becomes_a_similar_one(
        own in samples::mappings(16, 10),
        changes in prop::collection::vec((0..6u8, 0..3u64, 0..3u64), 10),
    ) {
        let mut target = Vec::new();
        let mut low = Addr::NULL;
        for (vma, (change, head, tail)) in own.iter().zip(changes) {
            let mut vma = vma.clone();
            let start = vma.range.start().as_raw() + head * PAGE_SIZE;
            let end = vma.range.end().as_raw().wrapping_add(PAGE_SIZE).wrapping_sub(tail * PAGE_SIZE);
            let range = AddrRange::new(Addr::from_raw(start).max(low), Addr::from_raw(end));
            let Some(range) = range.filter(|range| !range.is_empty()) else { continue };
            match change {
                0 => continue,
                1 => vma.prot = ProtFlags::READ,
                2 => vma.advice = Advice::HUGE_PAGE,
                _ => {}
            }
            low = range.end();
            target.push(vma.cut(range));
        }
        check(&own, &target)?;
        check(&target, &own)?;
    }

    #[test]
    fn what_children_need_is_there_when_they_are_made(
        own in samples::mappings(16, 10),
        child in samples::mappings(16, 10),
    ) {
        let hull = hull(&own, &[&child], room());
        prop_assert!(hull.is_sorted_by(|a, b| a.range.end() <= b.range.start()));
        for (wide, vma) in hull.iter().zip(&own) {
            prop_assert_eq!(wide.range.intersection(vma.range), Some(vma.range));
            prop_assert!(wide.is_same_as(&vma.working()));
        }
        check(&hull, &own)?;
        check(&hull, &child)?;
    }
}

#[test]
fn nothing_is_done_where_nothing_differs() {
    let vmas = working(&[
        anonymous(pages(16, 4)),
        private_file(pages(20, 4), 1, 0x5000),
        shared_memory(pages(30, 2), 1, 0),
    ]);
    let same = transition(&vmas, &vmas, room());
    assert_eq!((same.unmaps, same.steps), (vec![], vec![]));
    assert_eq!(same.kept, [pages(16, 8), pages(30, 2)]);
}

#[test]
fn a_process_that_shares_nothing_is_emptied_in_one_call_on_each_side_of_the_room() {
    let vmas = working(&[
        anonymous(pages(16, 4)),
        anonymous(pages(40, 4)),
        anonymous(pages(2 << 20, 4)),
        anonymous(pages(3 << 20, 4)),
    ]);
    let empty = transition(&vmas, &[], room());
    assert_eq!(
        empty.unmaps,
        [MapStep::Unmap(pages(16, 28)), MapStep::Unmap(pages(2 << 20, (1 << 20) + 4))]
    );
}

#[test]
fn a_mapping_grows_at_its_end_and_is_cut_at_its_start() {
    let old = working(&[anonymous(pages(16, 4))]);
    let new = working(&[anonymous(pages(18, 10))]);
    let change = transition(&old, &new, room());
    assert_eq!(change.unmaps, [MapStep::Unmap(pages(16, 2))]);
    assert_eq!(change.steps, [MapStep::Extend(pages(20, 8))]);
    assert_eq!(change.kept, [pages(18, 2)]);
}

#[test]
fn a_stack_reaches_as_far_down_as_that_of_a_child() {
    let stack = |range| Vma { traits: Traits::GROWS_DOWN | Traits::ACCOUNTED, ..anonymous(range) };
    let own = [anonymous(pages(16, 4)), stack(pages(100, 4))];
    let child = [stack(pages(10, 94))];
    let hull = hull(&own, &[&child], room());
    // Not into what is below.
    assert_eq!(hull[1].range, pages(20, 84));
    assert_eq!(hull[0].range, pages(16, 4));
}

#[test]
fn huge_pages_of_a_parent_are_not_forced_upon_a_child() {
    let huge = Vma { advice: Advice::HUGE_PAGE, ..anonymous(pages(512, 512)) };
    let plain = anonymous(pages(512, 512));
    let hull = hull(std::slice::from_ref(&huge), &[std::slice::from_ref(&plain)], room());
    assert_eq!(hull[0].advice, Advice::empty());
    let own = transition(&hull, &working(std::slice::from_ref(&huge)), room());
    assert_eq!(own.steps, [MapStep::Advise(pages(512, 512), Advice::HUGE_PAGE)]);
    // Once given it cannot be taken back.
    let change = transition(&working(&[huge]), &working(&[plain]), room());
    assert!(change.kept.is_empty());
}

#[test]
fn the_end_is_as_asked_for() {
    let relro = Vma {
        prot: ProtFlags::READ,
        traits: Traits::ACCOUNTED,
        ..private_file(pages(16, 2), 1, 0)
    };
    let code = private_file(pages(18, 2), 1, 0x2000);
    let spare = Vma { prot: ProtFlags::empty(), ..anonymous(pages(30, 2)) };
    let secret = Vma {
        advice: Advice::DONT_DUMP | Advice::HUGE_PAGE,
        lock: Lock::OnFault,
        traits: Traits::ACCOUNTED | Traits::SEALED,
        ..anonymous(pages(40, 2))
    };
    let all = [relro.clone(), code, spare.clone(), secret.clone()];
    assert_eq!(
        finish(&all, &[pages(41, 1)], |range| range == relro.range),
        [
            MapStep::Protect(relro.range, ProtFlags::READ),
            MapStep::Touch(spare.range),
            MapStep::Protect(spare.range, ProtFlags::empty()),
            MapStep::Advise(secret.range, Advice::DONT_DUMP),
            MapStep::Guard(pages(41, 1)),
            MapStep::Lock { range: secret.range, on_fault: true, accessible: false },
            MapStep::Seal(secret.range),
        ]
    );
}
