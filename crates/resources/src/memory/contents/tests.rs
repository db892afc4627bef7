use std::collections::BTreeMap;

use dormouse_kernel::PAGE_SIZE;
use proptest::prelude::*;

use super::*;
use crate::memory::samples::pages;

/// Page by page.
type Model = BTreeMap<u64, PageSource>;

fn contents(model: &Model) -> Contents {
    let mut contents = Contents::default();
    for (&page, &source) in model {
        contents.push(ContentRun { range: pages(page, 1), source });
    }
    contents
}

fn model(contents: &Contents) -> Model {
    let mut model = Model::new();
    for run in contents.runs() {
        for page in 0..run.range.pages() {
            let source = run.source.skip(page * PAGE_SIZE);
            let number = run.range.start().as_raw() / PAGE_SIZE + page;
            assert_eq!(model.insert(number, source), None);
        }
    }
    model
}

/// Sources often follow each other, so that there are runs of several pages.
fn any_model() -> impl Strategy<Value = Model> {
    prop::collection::vec((0..40u64, 1..6u64, 0..2u32, 0..3u64), 0..12).prop_map(|runs| {
        let mut model = Model::new();
        for (first, len, file, shift) in runs {
            for page in first..first + len {
                model.insert(page, PageSource { file, offset: (page + shift) * PAGE_SIZE });
            }
        }
        model
    })
}

fn any_ranges() -> impl Strategy<Value = Vec<AddrRange>> {
    prop::collection::vec((0..4u64, 1..6u64), 0..8).prop_map(|gaps| {
        let mut at = 0;
        let mut ranges = Vec::new();
        for (gap, len) in gaps {
            ranges.push(pages(at + gap, len));
            at += gap + len;
        }
        ranges
    })
}

fn is_in(ranges: &[AddrRange], page: u64) -> bool {
    ranges.iter().any(|range| range.intersection(pages(page, 1)).is_some())
}

proptest! {
    #[test]
    fn runs_are_pages(a in any_model()) {
        prop_assert_eq!(model(&contents(&a)), a.clone());
        prop_assert_eq!(contents(&a).pages(), a.len() as u64);
        let ranges = contents(&a).ranges();
        prop_assert!((0..60).all(|page| is_in(&ranges, page) == a.contains_key(&page)));
        let touched = |page| contents(&a).touches(pages(page, 1));
        prop_assert!((0..60).all(|page| touched(page) == a.contains_key(&page)));
    }

    #[test]
    fn parts_are_as_page_by_page(a in any_model(), ranges in any_ranges()) {
        let (mut within, mut without) = (a.clone(), a.clone());
        within.retain(|&page, _| is_in(&ranges, page));
        without.retain(|&page, _| !is_in(&ranges, page));
        prop_assert_eq!(model(&contents(&a).within(&ranges)), within);
        prop_assert_eq!(model(&contents(&a).without(&ranges)), without);
    }

    #[test]
    fn two_contents_are_compared_and_combined(a in any_model(), b in any_model()) {
        let mut common = a.clone();
        common.retain(|page, source| b.get(page) == Some(source));
        prop_assert_eq!(model(&contents(&a).common(&contents(&b))), common);
        let mut overlaid = a.clone();
        overlaid.extend(b.clone());
        prop_assert_eq!(model(&contents(&a).overlaid(&contents(&b))), overlaid);
    }
}
