use std::collections::BTreeMap;

use dormouse_image::ImageName;
use dormouse_kernel::PAGE_SIZE;
use dormouse_kernel::proc::MemoryLayout;
use proptest::prelude::*;

use super::*;
use crate::file::FileId;
use crate::memory::compare::inheritable;
use crate::memory::contents::{ContentRun, PageSource};
use crate::memory::mm::{Dumpable, TransparentHugePages};
use crate::memory::outlook::Outlook;
use crate::memory::samples::{self, anonymous, pages};

fn room() -> AddrRange {
    pages(1 << 20, 16)
}

fn memory(exe: u32, vmas: Vec<Vma>, sources: &BTreeMap<u64, PageSource>) -> SavedMemory {
    let none = (Addr::NULL, Addr::NULL);
    let mut contents = Contents::default();
    for (&page, &source) in sources {
        contents.push(ContentRun { range: pages(page, 1), source });
    }
    let private: Vec<_> = vmas.iter().filter(|vma| vma.is_private()).map(|vma| vma.range).collect();
    SavedMemory {
        contexts: Vec::new(),
        segments: BTreeMap::new(),
        mm: Mm {
            layout: MemoryLayout {
                code: none,
                data: none,
                start_brk: Addr::NULL,
                start_stack: Addr::NULL,
                args: none,
                env: none,
            },
            brk: Addr::NULL,
            auxv: Vec::new(),
            exe: FileId::from_raw(exe),
            dumpable: Dumpable::Yes,
            huge_pages: TransparentHugePages::Anywhere,
            outlook: Outlook::default(),
            vmas,
            guards: Vec::new(),
        },
        image: ImageName::Mm(1),
        contents: contents.within(&private),
        vdso: Contents::default(),
        exact: true,
    }
}

/// A page of a process: what is mapped, and which of all pages ever written it holds.
type Pages = BTreeMap<u64, (Vma, Option<Written>)>;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Written {
    source: PageSource,
    /// Two pages with the same are one piece of memory.
    frame: usize,
}

/// What the kernel would do, page by page.
#[derive(Default)]
struct Machine {
    frames: usize,
}

impl Machine {
    fn numbers(range: AddrRange) -> std::ops::Range<u64> {
        range.start().as_raw() / PAGE_SIZE..range.end().as_raw() / PAGE_SIZE
    }

    fn map(pages_of: &mut Pages, vma: &Vma) {
        for page in Self::numbers(vma.range) {
            let old = pages_of.insert(page, (vma.cut(pages(page, 1)), None));
            assert!(old.is_none(), "page {page} is mapped twice");
        }
    }

    fn run(steps: &[MapStep], pages_of: &mut Pages) {
        for step in steps {
            match step {
                MapStep::Unmap(range) => {
                    pages_of.retain(|page, _| !Self::numbers(*range).contains(page));
                }
                MapStep::Map(vma) => Self::map(pages_of, vma),
                MapStep::Extend(range) => {
                    let (last, _) = &pages_of[&(range.start().as_raw() / PAGE_SIZE - 1)];
                    Self::map(pages_of, &last.clone().cut(*range));
                }
                MapStep::Drop(range) => {
                    for page in Self::numbers(*range) {
                        pages_of.get_mut(&page).expect("it is mapped").1 = None;
                    }
                }
                MapStep::Protect(range, prot) => {
                    for page in Self::numbers(*range) {
                        pages_of.get_mut(&page).expect("it is mapped").0.prot = *prot;
                    }
                }
                MapStep::Advise(range, _) => {
                    assert!(Self::numbers(*range).all(|page| pages_of.contains_key(&page)));
                }
                other => panic!("{other:?} is not for here"),
            }
        }
    }

    fn fill(&mut self, contents: &Contents, pages_of: &mut Pages) {
        for run in contents.runs() {
            for page in Self::numbers(run.range) {
                let source = run.cut(pages(page, 1)).unwrap().source;
                let (vma, written) = pages_of.get_mut(&page).expect("it is mapped");
                assert!(vma.is_private());
                self.frames += 1;
                *written = Some(Written { source, frame: self.frames });
            }
        }
    }
}

fn plan<'a>(memories: &'a [SavedMemory], parents: &[Option<usize>]) -> RestorePlan<'a> {
    let processes: Vec<_> = memories
        .iter()
        .zip(parents)
        .map(|(memory, &parent)| RestoredProcess { memory, parent })
        .collect();
    RestorePlan::new(&processes, Arc::default(), None, room()).unwrap()
}

fn check(memories: Vec<SavedMemory>, parents: Vec<Option<usize>>) -> Result<(), TestCaseError> {
    let expected: Vec<(Vec<Vma>, Contents)> =
        memories.iter().map(|m| (m.mm.vmas.clone(), m.contents.clone())).collect();
    let exes: Vec<_> = memories.iter().map(|memory| memory.mm.exe).collect();
    let plan = plan(&memories, &parents);

    let mut machine = Machine::default();
    let mut tree: Vec<Pages> = vec![Pages::new(); parents.len()];
    let mut forked: Vec<bool> = parents.iter().map(Option::is_none).collect();
    for (number, process) in plan.processes.iter().enumerate() {
        prop_assert!(forked[number]);
        let fork = |tree: &mut Vec<Pages>, forked: &mut Vec<bool>, sharing| {
            for (child, parent) in parents.iter().enumerate() {
                if *parent == Some(number) && plan.shares_with_parent(child) == sharing {
                    tree[child] = tree[number].clone();
                    forked[child] = true;
                }
            }
        };
        fork(&mut tree, &mut forked, false);
        let own = &mut tree[number];
        Machine::run(&process.unmap, own);
        Machine::run(&process.map, own);
        machine.fill(&process.common, own);
        fork(&mut tree, &mut forked, true);
        let own = &mut tree[number];
        Machine::run(&process.settle, own);
    }
    for (process, own) in plan.processes.iter().zip(&mut tree) {
        machine.fill(&process.rest, own);
    }
    prop_assert_eq!(plan.counts().written, machine.frames as u64);

    for (number, (pages_of, (vmas, contents))) in tree.iter().zip(&expected).enumerate() {
        let mapped: Vec<u64> = vmas.iter().flat_map(|vma| Machine::numbers(vma.range)).collect();
        prop_assert!(pages_of.keys().copied().eq(mapped), "process {}", number);
        for vma in vmas {
            for page in Machine::numbers(vma.range) {
                let (is, written) = &pages_of[&page];
                let want = vma.working().cut(pages(page, 1));
                prop_assert!(is.is_same_as(&want));
                prop_assert_eq!(is.prot, want.prot);
                let source = contents.within(&[pages(page, 1)]).runs().first().map(|r| r.source);
                prop_assert_eq!(written.map(|written| written.source), source);
            }
        }
        // What is in common with the parent is one piece of memory.
        let Some(parent) = parents[number] else { continue };
        if exes[parent] != exes[number] {
            continue;
        }
        let (theirs, their_contents) = &expected[parent];
        let common = contents.common(their_contents).within(&inheritable(theirs, vmas));
        for run in common.runs() {
            for page in Machine::numbers(run.range) {
                prop_assert_eq!(pages_of[&page].1, tree[parent][&page].1, "page {}", page);
            }
        }
    }
    Ok(())
}

/// One source for each page, of few, so that many are equal.
fn sources() -> impl Strategy<Value = BTreeMap<u64, PageSource>> {
    prop::collection::btree_map(16..60u64, 0..3u32, 0..40).prop_map(|pages| {
        let source = |(page, file)| (page, PageSource { file, offset: page * PAGE_SIZE });
        pages.into_iter().map(source).collect()
    })
}

proptest! {
    /// Processes whose mappings have little in common.
    #[test]
    fn any_tree_gets_its_memory(
        tree in prop::collection::vec(
            (samples::mappings(16, 10), sources(), 0..10usize, 0..3u32),
            1..6,
        ),
    ) {
        let parents = tree
            .iter()
            .enumerate()
            .map(|(number, (_, _, parent, _))| number.checked_sub(1).map(|max| parent.min(&max).to_owned()))
            .collect();
        let memories =
            tree.into_iter().map(|(vmas, sources, _, exe)| memory(exe / 2, vmas, &sources));
        check(memories.collect(), parents)?;
    }

    /// Processes that were forked from each other, and changed a little.
    #[test]
    fn a_family_gets_its_memory(
        first in samples::mappings(16, 10),
        common in sources(),
        tree in prop::collection::vec(
            (prop::collection::btree_map(16..60u64, any::<bool>(), 0..10), 0..12usize, 0..10usize),
            1..6,
        ),
    ) {
        let parents = tree
            .iter()
            .enumerate()
            .map(|(number, (.., parent))| number.checked_sub(1).map(|max| parent.min(&max).to_owned()))
            .collect();
        let mut private = 0;
        let memories = tree.into_iter().map(|(changes, dropped, _)| {
            let mut sources = common.clone();
            for (page, written) in changes {
                private += PAGE_SIZE;
                match written {
                    true => sources.insert(page, PageSource { file: 9, offset: private }),
                    false => sources.remove(&page),
                };
            }
            let mut vmas = first.clone();
            if dropped < vmas.len() {
                vmas.remove(dropped);
            }
            memory(1, vmas, &sources)
        });
        check(memories.collect(), parents)?;
    }
}

#[test]
fn pages_go_through_a_process_that_has_others() {
    // The second has written over a page that its parent and its own child have in common.
    let vmas = || vec![anonymous(pages(16, 4))];
    let all: BTreeMap<_, _> =
        (16..20).map(|page| (page, PageSource { file: 1, offset: page << 12 })).collect();
    let mut own = all.clone();
    own.insert(17, PageSource { file: 2, offset: 0 });
    let memories = [&all, &own, &all, &all].map(|sources| memory(1, vmas(), sources));
    let plan = plan(&memories, &[None, Some(0), Some(1), Some(0)]);
    // For the last one all pages are in the first when its children are made.
    assert_eq!(plan.counts(), PlannedPages { compared: 0, inherited: 3 + 4 + 4, written: 4 + 1 });
    assert!((1..4).all(|process| plan.shares_with_parent(process)));
}

#[test]
fn siblings_have_in_common_what_their_parent_has_not() {
    let vmas = || vec![anonymous(pages(16, 4))];
    let of = |file| -> BTreeMap<_, _> {
        (16..20).map(|page| (page, PageSource { file, offset: page << 12 })).collect()
    };
    let memories = [of(1), of(2), of(2), of(3)].map(|sources| memory(1, vmas(), &sources));
    let plan = plan(&memories, &[None, Some(0), Some(0), Some(0)]);
    // Written for the two once, and then over it in their parent, and once for the third.
    assert_eq!(plan.counts().written, 4 + 4 + 4);
    assert!(plan.shares_with_parent(1) && plan.shares_with_parent(2));
    assert!(!plan.shares_with_parent(3));
}

#[test]
fn another_program_shares_nothing() {
    let vmas = vec![anonymous(pages(16, 4))];
    let all: BTreeMap<_, _> =
        (16..20).map(|page| (page, PageSource { file: 1, offset: page << 12 })).collect();
    let memories = [memory(1, vmas.clone(), &all), memory(2, vmas, &all)];
    let plan = plan(&memories, &[None, Some(0)]);
    assert!(!plan.shares_with_parent(1));
    assert_eq!(plan.counts().written, 8);
}
