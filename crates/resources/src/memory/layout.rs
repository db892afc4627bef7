//! From the mappings a process has to those it is to have.
//!
//! While a process is built its mappings are in a *working* state: private memory that was ever
//! writable is writable, so that it can be filled and counts as committed; of all advice only that
//! on huge pages is given; what is mapped of a sealed memfd is mapped of one open for reading.
//! [`finish`] makes the rest so.

use dormouse_kernel::{Addr, AddrRange};

use super::steps::MapStep;
use super::survey::push_joined;
use super::vma::{Access, Advice, Backing, FileRange, Lock, ProtFlags, Traits, Vma};

/// Advice that decides what kind of pages memory is filled with. None of it can be taken back.
pub(super) const ON_HUGE_PAGES: Advice = Advice::HUGE_PAGE.union(Advice::NO_HUGE_PAGE);

impl Vma {
    /// The mapping while the process is built.
    pub(super) fn working(&self) -> Self {
        if let Backing::AioRing { .. } = self.backing {
            return self.in_place_of_ring();
        }
        let mut prot = self.prot;
        let once_writable = self.traits.intersects(Traits::ACCOUNTED | Traits::NO_RESERVE);
        // Huge pages are reserved, so none of them counts.
        if self.is_private() && (once_writable || self.huge.is_some()) {
            prot |= ProtFlags::WRITE;
        }
        let mut working = Self {
            prot,
            traits: self.traits - Traits::SEALED,
            advice: self.advice & ON_HUGE_PAGES,
            lock: Lock::None,
            name: None,
            ..self.clone()
        };
        if let Backing::File { file: FileRange { access: access @ Access::Sealed, .. }, .. } =
            &mut working.backing
        {
            // The file cannot be sealed while a mapping may become writable.
            *access = Access::ReadOnly;
        }
        working
    }

    /// Private memory with the contents of a ring, until the context is made.
    fn in_place_of_ring(&self) -> Self {
        Self {
            range: self.range,
            prot: ProtFlags::READ | ProtFlags::WRITE,
            backing: Backing::Anonymous { heap: false },
            traits: Traits::empty(),
            advice: Advice::empty(),
            lock: Lock::None,
            name: None,
            huge: None,
        }
    }

    /// Whether the page that both have at an address would be the same piece of the same thing, so
    /// that one can become the other.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let lasting = Traits::GROWS_DOWN | Traits::NO_RESERVE;
        let (start, other_start) = (self.range.start().as_raw(), other.range.start().as_raw());
        // Both would begin with this byte if they began at address 0.
        let base = |offset: u64, start: u64| offset.wrapping_sub(start);
        let same = match (&self.backing, &other.backing) {
            (Backing::Anonymous { .. }, Backing::Anonymous { .. })
            | (Backing::Droppable, Backing::Droppable) => true,
            (
                Backing::File { file: a, private },
                Backing::File { file: b, private: other_private },
            ) => {
                let (FileRange { offset, .. }, FileRange { offset: other_offset, .. }) = (a, b);
                private == other_private
                    && FileRange { offset: 0, ..*a } == FileRange { offset: 0, ..*b }
                    && base(*offset, start) == base(*other_offset, other_start)
            }
            (
                Backing::SharedMemory { object, offset },
                Backing::SharedMemory { object: other_object, offset: other_offset },
            ) => object == other_object && base(*offset, start) == base(*other_offset, other_start),
            // These stay whole or not at all.
            (Backing::Segment { .. }, Backing::Segment { .. }) => {
                self.range == other.range && self.backing == other.backing
            }
            (Backing::Vdso, Backing::Vdso) | (Backing::Vvar, Backing::Vvar) => {
                self.range == other.range
            }
            _ => false,
        };
        // Nor can huge pages be added to a mapping.
        let fits = self.huge == other.huge && (self.huge.is_none() || self.range == other.range);
        same && fits && self.traits & lasting == other.traits & lasting
    }

    /// Whether `next` begins where this ends and is like it, so that one call can make both. Stacks
    /// keep to themselves.
    fn goes_on_as(&self, next: &Self) -> bool {
        self.range.end() == next.range.start()
            && self.is_same_as(next)
            && self.prot == next.prot
            && self.advice == next.advice
            && !self.traits.contains(Traits::GROWS_DOWN)
            && self.huge.is_none()
    }

    /// The part of the mapping in `range`, which lies inside of it.
    pub(super) fn cut(&self, range: AddrRange) -> Self {
        let skipped = range.start().as_raw().wrapping_sub(self.range.start().as_raw());
        let mut part = Self { range, ..self.clone() };
        match &mut part.backing {
            Backing::File { file, .. } => file.offset = file.offset.wrapping_add(skipped),
            Backing::SharedMemory { offset, .. } | Backing::Segment { offset, .. } => {
                *offset = offset.wrapping_add(skipped);
            }
            _ => {}
        }
        part
    }
}

/// What becomes of one layout in becoming another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Transition {
    /// First, what goes.
    pub(super) unmaps: Vec<MapStep>,
    /// Then, what comes.
    pub(super) steps: Vec<MapStep>,
    /// What stays mapped as it is, with its pages.
    pub(super) kept: Vec<AddrRange>,
}

/// Goes from `current` to `target`, both working states in ascending order. What fits stays;
/// `room` is no part of either and is left alone. Of the kernel's own mappings `target` may have
/// only those that stay.
pub(super) fn transition(current: &[Vma], target: &[Vma], room: AddrRange) -> Transition {
    let target = &joined(target);
    let pieces = kept_pieces(current, target);
    let mut kept = Vec::new();
    for piece in &pieces {
        push_joined(&mut kept, piece.range);
    }
    let unmaps = unmaps(current, &kept, room).into_iter().map(MapStep::Unmap).collect();
    let mut steps = Vec::new();
    for (number, vma) in target.iter().enumerate() {
        let from = pieces.partition_point(|piece| piece.is < number);
        let to = pieces.partition_point(|piece| piece.is <= number);
        complete(vma, current, &pieces[from..to], &mut steps);
    }
    Transition { unmaps, steps, kept }
}

/// The same mappings, with neighbours that are alike made one: what tells them apart they are given
/// in [`finish`]. The kernel would join them as well, after a call for each.
fn joined(vmas: &[Vma]) -> Vec<Vma> {
    let mut joined: Vec<Vma> = Vec::new();
    for vma in vmas {
        match joined.last_mut() {
            Some(last) if last.goes_on_as(vma) => {
                let range = AddrRange::new(last.range.start(), vma.range.end());
                last.range = range.expect("mappings ascend");
            }
            _ => joined.push(vma.clone()),
        }
    }
    joined
}

/// Makes `vma` of the pieces of it that are there.
fn complete(vma: &Vma, current: &[Vma], pieces: &[Piece], steps: &mut Vec<MapStep>) {
    let gap = |from, to| AddrRange::new(from, to).filter(|gap| !gap.is_empty());
    let mut at = vma.range.start();
    for (number, piece) in pieces.iter().enumerate() {
        if let Some(gap) = gap(at, piece.range.start()) {
            let step = if number == 0 { MapStep::Map(vma.cut(gap)) } else { MapStep::Extend(gap) };
            steps.push(step);
        }
        at = piece.range.end();
    }
    let mapped = pieces.first().is_none_or(|piece| piece.range.start() > vma.range.start());
    if let Some(gap) = gap(at, vma.range.end()) {
        let step = if pieces.is_empty() { MapStep::Map(vma.clone()) } else { MapStep::Extend(gap) };
        steps.push(step);
    }
    // What a piece was extended by is like the piece.
    let differ = |differs: &dyn Fn(&Vma) -> bool| pieces.iter().any(|p| differs(&current[p.was]));
    if differ(&|was| was.prot != vma.prot) {
        steps.push(MapStep::Protect(vma.range, vma.prot));
    }
    if !vma.advice.is_empty() && (mapped || differ(&|was| was.advice != vma.advice)) {
        steps.push(MapStep::Advise(vma.range, vma.advice));
    }
}

/// A piece of mapping `was` of the current layout which stays, as a piece of mapping `is` of the
/// target.
#[derive(Clone, Copy, Debug)]
struct Piece {
    was: usize,
    is: usize,
    range: AddrRange,
}

fn kept_pieces(current: &[Vma], target: &[Vma]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut first = 0;
    for (is, vma) in target.iter().enumerate() {
        first += current[first..].partition_point(|old| old.range.end() <= vma.range.start());
        for (was, old) in current.iter().enumerate().skip(first) {
            if old.range.start() >= vma.range.end() {
                break;
            }
            let takes_back = !old.advice.is_empty() && vma.advice.is_empty();
            if let Some(range) = old.range.intersection(vma.range)
                && old.is_same_as(vma)
                && !takes_back
            {
                pieces.push(Piece { was, is, range });
            }
        }
    }
    pieces
}

/// What of `current` has to go, in as few calls as it takes.
fn unmaps(current: &[Vma], kept: &[AddrRange], room: AddrRange) -> Vec<AddrRange> {
    let mut unmaps: Vec<AddrRange> = Vec::new();
    // The first of the kept ranges that does not end before what was looked at.
    let mut next = 0;
    for old in current {
        let mut at = old.range.start();
        while at < old.range.end() {
            next += kept[next..].partition_point(|kept| kept.end() <= at);
            let stays = kept.get(next).filter(|kept| kept.start() < old.range.end());
            let end = stays.map_or(old.range.end(), |kept| kept.start());
            if let Some(gone) = AddrRange::new(at, end).filter(|gone| !gone.is_empty()) {
                match unmaps.last_mut() {
                    Some(last) if is_between(last.end(), gone.start(), kept, next, room) => {
                        *last = AddrRange::new(last.start(), gone.end()).expect("both ascend");
                    }
                    _ => unmaps.push(gone),
                }
            }
            at = stays.map_or(end, |kept| kept.end());
        }
    }
    unmaps
}

/// Whether nothing that stays is between the two addresses. `next` is the first of `kept` that ends
/// behind `to`.
fn is_between(from: Addr, to: Addr, kept: &[AddrRange], next: usize, room: AddrRange) -> bool {
    let stays = next.checked_sub(1).is_some_and(|before| kept[before].end() > from);
    !stays && (room.end() <= from || room.start() >= to)
}

/// The layout at the time children are made that have pages of this process: that of the process,
/// with mappings reaching as far as those of `children`, so that the children only have to cut off
/// what is too much (appending is possible at the end only).
pub(super) fn hull(own: &[Vma], children: &[&[Vma]], room: AddrRange) -> Vec<Vma> {
    let mut hull: Vec<Vma> = own.iter().map(Vma::working).collect();
    for number in 0..hull.len() {
        let vma = &hull[number];
        if !vma.is_private() {
            continue;
        }
        let mut low = hull[..number].last().map_or(Addr::NULL, |v| v.range.end());
        let mut high =
            hull.get(number + 1).map_or(Addr::from_raw(u64::MAX), |next| next.range.start());
        if room.end() <= vma.range.start() {
            low = low.max(room.end());
        } else {
            high = high.min(room.start());
        }
        let (mut start, mut end) = (vma.range.start(), vma.range.end());
        let mut same_advice = true;
        for child in children {
            let first = child.partition_point(|theirs| theirs.range.end() <= vma.range.start());
            for theirs in child[first..].iter().take_while(|v| v.range.start() < vma.range.end()) {
                if theirs.is_same_as(vma) {
                    start = start.min(theirs.range.start().max(low));
                    end = end.max(theirs.range.end().min(high));
                    same_advice &= theirs.advice & ON_HUGE_PAGES == vma.advice;
                }
            }
        }
        let mut wide = vma.cut(AddrRange::new(start, end).expect("it only became wider"));
        if !same_advice {
            wide.advice = Advice::empty();
        }
        hull[number] = wide;
    }
    hull
}

/// From the working state to the end, once memory is filled. `has_pages` tells whether something
/// was put into a mapping.
pub(super) fn finish(
    target: &[Vma],
    guards: &[AddrRange],
    has_pages: impl Fn(AddrRange) -> bool,
) -> Vec<MapStep> {
    let mut steps = Vec::new();
    for vma in target.iter().filter(|vma| !vma.is_special()) {
        let mut working = vma.working();
        if vma.is_write_sealed() {
            working.advice = Advice::empty();
            let mapping = Vma { backing: vma.backing.clone(), ..working.clone() };
            steps.extend([MapStep::Unmap(vma.range), MapStep::Map(mapping)]);
        }
        if working.prot != vma.prot {
            // The kernel stops counting anonymous memory that has not had a page yet.
            if vma.is_anonymous() && vma.huge.is_none() && !has_pages(vma.range) {
                steps.push(MapStep::Touch(vma.range));
            }
            steps.push(MapStep::Protect(vma.range, vma.prot));
        }
        let advice = vma.advice - working.advice;
        if !advice.is_empty() {
            steps.push(MapStep::Advise(vma.range, advice));
        }
        if let Some(name) = &vma.name {
            steps.push(MapStep::Name(vma.range, name.clone()));
        }
    }
    steps.extend(guards.iter().copied().map(MapStep::Guard));
    // Locked memory cannot have guard pages put in.
    steps.extend(target.iter().filter(|vma| vma.lock != Lock::None).map(|vma| MapStep::Lock {
        range: vma.range,
        on_fault: vma.lock == Lock::OnFault,
        accessible: !vma.prot.is_empty() && !guards.iter().any(|g| vma.range.contains(g.start())),
    }));
    // From here on nothing can be changed.
    let sealed = target.iter().filter(|vma| vma.traits.contains(Traits::SEALED));
    steps.extend(sealed.map(|vma| MapStep::Seal(vma.range)));
    steps
}

#[cfg(test)]
mod tests;
