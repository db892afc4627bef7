//! Which pages several processes have in common.
//!
//! After `fork(2)` parent and child have the same frames of memory at the same addresses until one
//! of them writes. Frame numbers tell, whatever the family tree: processes whose common ancestor
//! has ended share as well.
//!
//! The address space is walked in windows, all processes side by side, so that memory stays small:
//! a window is narrower the more processes there are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use dormouse_kernel::pagemap::PageEntry;
use dormouse_kernel::{Addr, AddrRange, PAGE_SIZE};

use super::error::Result;
use super::survey::{PageRun, PageTraits, StoredPages, push_joined};

/// The pages that several processes have in common.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SharedPages {
    /// Ascending by start; those of one process do not overlap.
    pub(super) groups: Vec<Group>,
    /// Each a set of processes, by their index, ascending.
    sets: Vec<Box<[usize]>>,
}

/// Pages next to each other that the same processes have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) range: AddrRange,
    pub(super) traits: PageTraits,
    set: usize,
}

impl Group {
    /// Adds the next page.
    fn go_on_to(&mut self, page: AddrRange) {
        self.range = AddrRange::new(self.range.start(), page.end()).expect("pages ascend");
    }
}

/// Entries looked at in one window: 2 MiB of them.
const WINDOW_ENTRIES: u64 = 256 << 10;
/// Pages of a window at most: more do not make it faster.
const WINDOW_PAGES: u64 = 4096;

impl SharedPages {
    /// Compares the pages of `processes`. `entries` appends the entries of a process's pagemap for
    /// a range.
    pub(super) fn find(
        processes: &[StoredPages],
        mut entries: impl FnMut(usize, AddrRange, &mut Vec<PageEntry>) -> Result<()>,
    ) -> Result<Self> {
        let mut shared = Self::default();
        let mut candidates: Vec<Candidates> = processes.iter().map(Candidates::new).collect();
        let mut next: BinaryHeap<_> = candidates
            .iter()
            .enumerate()
            .filter_map(|(process, runs)| Some(Reverse((runs.next()?, process))))
            .collect();
        let width = (WINDOW_ENTRIES / (next.len() as u64).max(1)).clamp(64, WINDOW_PAGES);
        let mut search = Search::default();
        let mut read = Vec::new();
        while next.len() > 1 {
            let Some(&Reverse((start, _))) = next.peek() else { break };
            // No user address is near the end of all addresses.
            let window = AddrRange::with_len(start, width * PAGE_SIZE).expect("user memory");
            search.begin(window, width as usize);
            while let Some(&Reverse((start, process))) = next.peek()
                && start < window.end()
            {
                next.pop();
                search.members.push(process);
            }
            search.members.sort_unstable();
            let members = std::mem::take(&mut search.members);
            for &process in &members {
                let runs = &mut candidates[process];
                if members.len() > 1 {
                    let hull = runs.hull(window).expect("members have pages in the window");
                    read.clear();
                    entries(process, hull, &mut read)?;
                    search.add(runs, hull, &read);
                }
                runs.pass(window.end());
                if let Some(start) = runs.next() {
                    next.push(Reverse((start, process)));
                }
            }
            if members.len() > 1 {
                search.compare(&members, &mut shared);
            }
            search.members = members;
        }
        shared.sets = search.into_sets();
        Ok(shared)
    }

    /// The processes that have the pages of `group`, by their index; the first stands for all.
    pub(super) fn members(&self, group: &Group) -> &[usize] {
        &self.sets[group.set]
    }

    /// How many pages less are stored if these are stored once.
    pub(super) fn saved(&self) -> u64 {
        let copies = |group: &Group| self.members(group).len() as u64 - 1;
        self.groups.iter().map(|group| group.range.pages() * copies(group)).sum()
    }

    /// What is left of the pages of each process.
    pub(super) fn private(&self, processes: Vec<StoredPages>) -> Vec<StoredPages> {
        if self.groups.is_empty() {
            return processes;
        }
        let mut shared: Vec<Vec<AddrRange>> = vec![Vec::new(); processes.len()];
        for group in &self.groups {
            for &process in self.members(group) {
                push_joined(&mut shared[process], group.range);
            }
        }
        let rest = |(pages, shared): (StoredPages, &Vec<AddrRange>)| StoredPages {
            runs: subtract(&pages.runs, shared),
        };
        processes.into_iter().zip(&shared).map(rest).collect()
    }
}

/// The runs of one process in which there may be shared pages.
struct Candidates {
    runs: Vec<PageRun>,
    at: usize,
    /// Up to here all is done.
    passed: Addr,
}

impl Candidates {
    fn new(pages: &StoredPages) -> Self {
        let runs = pages.runs.iter().filter(|run| run.traits.maybe_shared).copied().collect();
        Self { runs, at: 0, passed: Addr::NULL }
    }

    /// Where the first page is that was not passed.
    fn next(&self) -> Option<Addr> {
        self.runs.get(self.at).map(|run| run.range.start().max(self.passed))
    }

    fn pass(&mut self, to: Addr) {
        self.passed = to;
        self.at += self.runs[self.at..].partition_point(|run| run.range.end() <= to);
    }

    /// The runs with pages in `window`, cut to it.
    fn within(&self, window: AddrRange) -> impl Iterator<Item = PageRun> {
        self.runs[self.at..].iter().map_while(move |run| {
            run.range.intersection(window).map(|range| PageRun { range, ..*run })
        })
    }

    fn hull(&self, window: AddrRange) -> Option<AddrRange> {
        let first = self.within(window).next()?;
        let last = self.within(window).last()?;
        AddrRange::new(first.range.start(), last.range.end())
    }
}

/// What is found in one window, and what the windows have in common.
#[derive(Default)]
struct Search {
    window: Option<AddrRange>,
    width: usize,
    members: Vec<usize>,
    /// For each member of the window that has pages there, `width` cells.
    cells: Vec<Cell>,
    sets: Vec<Box<[usize]>>,
    numbers: HashMap<Box<[usize]>, usize>,
}

/// A page of one process: what is behind it, 0 if nothing that could be shared.
#[derive(Clone, Copy, Default)]
struct Cell {
    key: u64,
    readable: bool,
}

impl Cell {
    fn new(entry: PageEntry, traits: PageTraits) -> Self {
        let slot = match (entry.frame(), entry.swap_slot()) {
            _ if entry.is_exclusive() => 0,
            (Some(frame), _) => frame.as_raw() << 1,
            // Area and offset in one number.
            (None, Some(slot)) => match slot.offset << 5 | u64::from(slot.area) {
                0 => 0,
                slot => slot << 1 | 1,
            },
            (None, None) => 0,
        };
        // Pages that may be left out and pages that may not are not the same.
        let key = if slot == 0 { 0 } else { slot << 1 | u64::from(traits.zero_is_nothing) };
        Self { key, readable: traits.readable }
    }

    /// What holds of the page if several processes have it.
    fn traits(self) -> PageTraits {
        PageTraits {
            zero_is_nothing: self.key & 1 != 0,
            readable: self.readable,
            maybe_shared: true,
        }
    }
}

/// What holds of the page behind all of `cells`, if it is one and those who have it are `set`.
fn one_page(cells: &[(Cell, usize)], set: &[usize]) -> Option<PageTraits> {
    let (first, _) = cells.first()?;
    let is_one = cells.iter().all(|(cell, _)| cell.key == first.key);
    let are_they = || cells.iter().map(|(_, process)| process).eq(set);
    (is_one && are_they()).then(|| first.traits())
}

impl Search {
    fn begin(&mut self, window: AddrRange, width: usize) {
        self.window = Some(window);
        self.width = width;
        self.members.clear();
        self.cells.clear();
    }

    fn column(&self, addr: Addr) -> usize {
        let start = self.window.map_or(0, |window| window.start().as_raw());
        ((addr.as_raw() - start) / PAGE_SIZE) as usize
    }

    /// Adds the next member's pages: the entries read for `hull`.
    fn add(&mut self, runs: &Candidates, hull: AddrRange, read: &[PageEntry]) {
        let row = self.cells.len();
        self.cells.resize(row + self.width, Cell::default());
        let first = self.column(hull.start());
        for run in self.window.into_iter().flat_map(|window| runs.within(window)) {
            let (start, end) = (self.column(run.range.start()), self.column(run.range.end()));
            for column in start..end {
                self.cells[row + column] = Cell::new(read[column - first], run.traits);
            }
        }
    }

    /// Finds equal pages and appends them to `shared`.
    fn compare(&mut self, members: &[usize], shared: &mut SharedPages) {
        let Some(window) = self.window else { return };
        let mut cells: Vec<(Cell, usize)> = Vec::with_capacity(members.len());
        // The groups that may go on in the next column, by set.
        let mut open: Vec<(usize, usize)> = Vec::new();
        let mut found: Vec<(usize, PageTraits)> = Vec::new();
        let mut same = Vec::new();
        for column in 0..self.width {
            cells.clear();
            let rows = self.cells.chunks_exact(self.width).zip(members);
            cells.extend(
                rows.map(|(row, &process)| (row[column], process))
                    .filter(|(cell, _)| cell.key != 0),
            );
            let start = window.start().checked_add(column as u64 * PAGE_SIZE);
            let page = start.and_then(|start| AddrRange::with_len(start, PAGE_SIZE));
            let page = page.expect("within the window");
            if let [(set, group)] = open[..]
                && let Some(traits) = one_page(&cells, &self.sets[set])
                && traits == shared.groups[group].traits
            {
                shared.groups[group].go_on_to(page);
                continue;
            }
            // By page; the members of each stay in order.
            cells.sort_by_key(|(cell, _)| cell.key);
            found.clear();
            for equal in cells.chunk_by(|(a, _), (b, _)| a.key == b.key) {
                if let [(first, _), _, ..] = equal {
                    same.clear();
                    same.extend(equal.iter().map(|&(_, process)| process));
                    found.push((self.number(&same), first.traits()));
                }
            }
            // Not in the order of frame numbers, which differ from dump to dump.
            found.sort_unstable_by_key(|&(set, _)| self.sets[set][0]);
            let mut still = Vec::with_capacity(found.len());
            for &(set, traits) in &found {
                let known = open.iter().find(|&&(open, _)| open == set).map(|&(_, group)| group);
                let group = match known.map(|group| (group, &mut shared.groups[group])) {
                    Some((number, group)) if group.traits == traits => {
                        group.go_on_to(page);
                        number
                    }
                    _ => {
                        shared.groups.push(Group { range: page, traits, set });
                        shared.groups.len() - 1
                    }
                };
                still.push((set, group));
            }
            open = still;
        }
    }

    fn number(&mut self, set: &[usize]) -> usize {
        if let Some(&number) = self.numbers.get(set) {
            return number;
        }
        let number = self.sets.len();
        self.sets.push(set.into());
        self.numbers.insert(set.into(), number);
        number
    }

    fn into_sets(self) -> Vec<Box<[usize]>> {
        self.sets
    }
}

/// `runs` without the pages of `holes`; both ascend.
fn subtract(runs: &[PageRun], holes: &[AddrRange]) -> Vec<PageRun> {
    let mut rest = Vec::with_capacity(runs.len());
    let mut holes = holes.iter().copied().peekable();
    for run in runs {
        let mut at = run.range.start();
        while let Some(hole) = holes.peek().copied() {
            if hole.start() >= run.range.end() {
                break;
            }
            if hole.start() > at {
                let range = AddrRange::new(at, hole.start()).expect("just compared");
                rest.push(PageRun { range, ..*run });
            }
            at = at.max(hole.end());
            if hole.end() > run.range.end() {
                break;
            }
            holes.next();
        }
        if at < run.range.end() {
            let range = AddrRange::new(at, run.range.end()).expect("just compared");
            rest.push(PageRun { range, ..*run });
        }
    }
    rest
}

#[cfg(test)]
mod tests;
