//! Which page of which file is, or is to be, at which address.

use dormouse_kernel::AddrRange;

use super::survey::push_joined;

/// Where the contents of a page are: a byte of a pages file. Two pages of the same source are the
/// same page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PageSource {
    /// By its number among the files of the dump.
    pub(super) file: u32,
    /// Of the page's first byte.
    pub(super) offset: u64,
}

impl PageSource {
    pub(super) fn skip(self, bytes: u64) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }
}

/// Pages next to each other in memory and in their file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRun {
    pub(super) range: AddrRange,
    /// Of the first page.
    pub(super) source: PageSource,
}

impl ContentRun {
    /// The part of the run in `range`.
    pub(super) fn cut(self, range: AddrRange) -> Option<Self> {
        let range = self.range.intersection(range)?;
        let skipped = range.start().as_raw() - self.range.start().as_raw();
        Some(Self { range, source: self.source.skip(skipped) })
    }
}

/// The contents of an address space: runs in ascending order that do not overlap. What is in none
/// was never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents(Vec<ContentRun>);

impl Contents {
    pub(super) fn runs(&self) -> &[ContentRun] {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn pages(&self) -> u64 {
        self.0.iter().map(|run| run.range.pages()).sum()
    }

    /// Appends a run, to the last one if it continues that.
    pub(super) fn push(&mut self, run: ContentRun) {
        if let Some(last) = self.0.last_mut()
            && last.range.end() == run.range.start()
            && last.source.skip(last.range.len()) == run.source
        {
            last.range = AddrRange::new(last.range.start(), run.range.end()).expect("runs ascend");
        } else {
            self.0.push(run);
        }
    }

    /// Whether anything in `range` has contents.
    pub(super) fn touches(&self, range: AddrRange) -> bool {
        let first = self.0.partition_point(|run| run.range.end() <= range.start());
        self.0.get(first).is_some_and(|run| run.range.start() < range.end())
    }

    /// Where there are contents.
    pub(super) fn ranges(&self) -> Vec<AddrRange> {
        let mut ranges = Vec::new();
        for run in &self.0 {
            push_joined(&mut ranges, run.range);
        }
        ranges
    }

    /// What is in `ranges`, which ascend.
    pub(super) fn within(&self, ranges: &[AddrRange]) -> Self {
        let mut within = Self::default();
        overlaps(
            &self.0,
            |run| run.range,
            ranges,
            |range| *range,
            |run, range| {
                within.0.extend(run.cut(*range));
            },
        );
        within
    }

    /// What is not in `holes`, which ascend.
    pub(super) fn without(&self, holes: &[AddrRange]) -> Self {
        let mut rest = Self::default();
        let mut holes = holes.iter().copied().peekable();
        for run in &self.0 {
            let mut at = run.range.start();
            let mut keep = |from, to| {
                rest.0.extend(AddrRange::new(from, to).and_then(|range| run.cut(range)));
            };
            while let Some(hole) = holes.peek().copied() {
                if hole.start() >= run.range.end() {
                    break;
                }
                keep(at, hole.start().max(at));
                at = at.max(hole.end());
                if hole.end() > run.range.end() {
                    break;
                }
                holes.next();
            }
            keep(at, run.range.end().max(at));
        }
        rest
    }

    /// What both have of the same source at the same address.
    pub(super) fn common(&self, other: &Self) -> Self {
        let mut common = Self::default();
        overlaps(
            &self.0,
            |run| run.range,
            &other.0,
            |run| run.range,
            |a, b| {
                if let (Some(a), Some(b)) = (a.cut(b.range), b.cut(a.range))
                    && a.source == b.source
                {
                    common.push(a);
                }
            },
        );
        common
    }

    /// This with `over` in place of what it had there.
    pub(super) fn overlaid(&self, over: &Self) -> Self {
        let mut all = self.without(&over.ranges()).0;
        all.extend_from_slice(&over.0);
        all.sort_unstable_by_key(|run| run.range.start());
        let mut joined = Self::default();
        all.into_iter().for_each(|run| joined.push(run));
        joined
    }
}

/// Calls `each` for any two of `a` and `b` that overlap. Both ascend, and do not overlap among
/// themselves.
pub(super) fn overlaps<A, B>(
    a: &[A],
    range_a: impl Fn(&A) -> AddrRange,
    b: &[B],
    range_b: impl Fn(&B) -> AddrRange,
    mut each: impl FnMut(&A, &B),
) {
    let (mut i, mut j) = (0, 0);
    while let (Some(left), Some(right)) = (a.get(i), b.get(j)) {
        let (left_range, right_range) = (range_a(left), range_b(right));
        if left_range.intersection(right_range).is_some() {
            each(left, right);
        }
        if left_range.end() <= right_range.end() {
            i += 1;
        } else {
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests;
