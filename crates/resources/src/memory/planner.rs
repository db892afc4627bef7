//! What is done to each process: the thinking behind [`RestorePlan`](super::RestorePlan).

use std::collections::BTreeMap;

use dormouse_kernel::shm::SegmentId;
use dormouse_kernel::{Addr, AddrRange};

use super::aio::AioContext;
use super::compare::{self, Pair, inheritable};
use super::contents::Contents;
use super::error::Result;
use super::layout::{self, Transition, transition};
use super::mm::Mm;
use super::restore_plan::{Process, RestoredProcess};
use super::saved::PagesFiles;
use super::steps::MapStep;
use super::vdso::{KernelVdso, USER_END, free_range};
use super::vma::{Access, Backing, Vma};

/// Only a process that runs the same program as its parent can have pages of it.
pub(super) fn may_inherit(parent: &Mm, child: &Mm) -> bool {
    parent.exe == child.exe
}

/// The contents of all processes, in which pages that a process has in common with its parent have
/// the same source. Also says how many pages were compared.
pub(super) fn unify(
    processes: &[RestoredProcess<'_>],
    files: &PagesFiles,
) -> Result<(Vec<Contents>, u64)> {
    let in_doubt = |(child, process): (usize, &RestoredProcess<'_>)| {
        let parent = process.parent?;
        let (theirs, ours) = (processes[parent].memory, process.memory);
        let differ = may_inherit(&theirs.mm, &ours.mm) && !(theirs.exact && ours.exact);
        differ.then_some((parent, child))
    };
    let families: Vec<_> = processes.iter().enumerate().filter_map(in_doubt).collect();
    let of = |process: usize| {
        let memory = processes[process].memory;
        (&*memory.mm.vmas, &memory.contents)
    };
    let pairs: Vec<_> = families
        .iter()
        .map(|&(parent, child)| Pair { parent: of(parent), child: of(child) })
        .collect();
    let (equal, compared) = compare::equal_pages(&pairs, files)?;
    let mut contents: Vec<_> =
        processes.iter().map(|process| process.memory.contents.clone()).collect();
    // Parents first, so that grandchildren get the source of the first that had the page.
    for (&(parent, child), equal) in families.iter().zip(equal) {
        contents[child] = contents[child].overlaid(&contents[parent].within(&equal));
    }
    Ok((contents, compared))
}

/// What a process is to have.
#[derive(Debug)]
pub(super) struct Own<'a> {
    pub(super) mm: &'a Mm,
    pub(super) segments: &'a BTreeMap<SegmentId, u64>,
    pub(super) contexts: &'a [AioContext],
    pub(super) contents: Contents,
}

/// What a process has at the time its children are made.
#[derive(Clone, Debug)]
pub(super) struct State {
    layout: Vec<Vma>,
    contents: Contents,
}

/// Plans for one process.
pub(super) struct Planner<'p, 'a> {
    pub(super) own: &'p Own<'a>,
    pub(super) inherited: Option<State>,
    pub(super) kernel: Option<&'p KernelVdso>,
    pub(super) room: AddrRange,
}

impl<'a> Planner<'_, 'a> {
    /// Whether a child has pages in common with this process, be it those of its own or those it
    /// has itself from its parent for the moment.
    fn shares_with(&self, child: &Own<'_>) -> bool {
        let ranges = inheritable(&self.own.mm.vmas, &child.mm.vmas);
        let wanted = child.contents.within(&ranges);
        !wanted.common(&self.own.contents).is_empty()
            || self
                .inherited
                .as_ref()
                .is_some_and(|state| !wanted.common(&state.contents).is_empty())
    }

    /// Of the children given, those that have pages in common with this process or with each other.
    pub(super) fn sharing(&self, children: &[usize], owned: &[Own<'_>]) -> Vec<usize> {
        let all: Vec<_> = children.iter().map(|&child| &owned[child]).collect();
        let siblings = self.between(&all);
        let shares = |child: &Own<'_>| {
            self.shares_with(child) || !child.contents.common(&siblings).is_empty()
        };
        children.iter().copied().filter(|&child| shares(&owned[child])).collect()
    }

    /// The pages that children have in common with each other, and could have from this process.
    /// Where there are several for one address, one of them.
    fn between(&self, children: &[&Own<'_>]) -> Contents {
        let mut between = Contents::default();
        // By their age, so that who was forked between the same changes follow each other.
        let mut last = Contents::default();
        for child in children {
            let ranges = inheritable(&self.own.mm.vmas, &child.mm.vmas);
            let theirs = child.contents.within(&ranges);
            between = between.overlaid(&theirs.common(&last));
            last = last.overlaid(&theirs);
        }
        between
    }

    /// Plans, given the children that share. Also says what they find, and how many pages of its
    /// own this process has from its parent.
    pub(super) fn plan(&mut self, heirs: &[&Own<'_>]) -> (Process<'a>, State, u64) {
        let (own, room) = (self.own, self.room);
        let shares = self.inherited.is_some();
        let inherited = self
            .inherited
            .take()
            .unwrap_or(State { layout: Vec::new(), contents: Contents::default() });
        let vmas: Vec<_> = own.mm.vmas.iter().filter(|vma| is_mapped(vma)).cloned().collect();
        let theirs: Vec<_> = heirs.iter().map(|heir| &*heir.mm.vmas).collect();
        let mut layout = layout::hull(&vmas, &theirs, room);
        let (mut unmap, map, kept) = self.map(&inherited.layout, &mut layout);
        if !shares {
            // Whenever it was forked, it begins with nothing.
            let end = Addr::from_raw(USER_END);
            let sides = [(Addr::NULL, room.start()), (room.end(), end)];
            let sides = sides.into_iter().filter_map(|(from, to)| AddrRange::new(from, to));
            unmap = sides.map(MapStep::Unmap).collect();
        }

        // What it has from its parent for now, and its children would have, too.
        let inherited_contents = inherited.contents.within(&kept);
        let mut wanted = self.between(heirs);
        for heir in heirs {
            let ranges = inheritable(&vmas, &heir.mm.vmas);
            wanted = wanted.overlaid(&own.contents.common(&heir.contents).within(&ranges));
        }
        let already = own.contents.common(&inherited_contents);
        let common = wanted.without(&wanted.common(&inherited_contents).ranges());
        let contents = inherited_contents.overlaid(&wanted);

        let working: Vec<_> = own
            .mm
            .vmas
            .iter()
            .filter(|vma| vma.backing != Backing::Vsyscall && !vma.is_ring())
            .map(Vma::working)
            .collect();
        let Transition { unmaps, steps, kept } = transition(&layout, &working, room);
        let mut settle = unmaps;
        settle.extend(steps);
        let there = contents.within(&kept);
        let strange = there.without(&own.contents.ranges());
        settle.extend(strange.ranges().into_iter().map(MapStep::Drop));
        let rest = own.contents.without(&own.contents.common(&there).ranges());

        let has_pages = |range| own.contents.touches(range);
        let process = Process {
            mm: own.mm,
            shares,
            sets_huge_pages: false,
            unmap,
            map,
            layout: layout.clone(),
            common,
            settle,
            rest,
            contexts: own.contexts,
            finish: layout::finish(&own.mm.vmas, &own.mm.guards, has_pages),
        };
        (process, State { layout, contents }, already.pages())
    }

    /// From what is inherited to `layout`, to which the kernel's own mappings are added. Also says
    /// what stays.
    fn map(
        &self,
        inherited: &[Vma],
        layout: &mut Vec<Vma>,
    ) -> (Vec<MapStep>, Vec<MapStep>, Vec<AddrRange>) {
        let special = |vmas: &[Vma]| -> Vec<Vma> {
            let is = |vma: &&Vma| matches!(vma.backing, Backing::Vdso | Backing::Vvar);
            vmas.iter().filter(is).map(Vma::working).collect()
        };
        let kernels = special(&self.own.mm.vmas);
        let stay = special(inherited) == kernels;
        let with = |layout: &[Vma]| {
            let mut all = [layout, &kernels].concat();
            all.sort_by_key(|vma| vma.range.start());
            all
        };
        let Transition { unmaps, steps, kept } = if stay {
            transition(inherited, &with(layout), self.room)
        } else {
            transition(inherited, layout, self.room)
        };
        let mut map = Vec::new();
        let used = || {
            let mappings = inherited.iter().chain(&*layout).chain(&kernels);
            mappings.map(|vma| vma.range).chain([self.room])
        };
        let scratch = |len| {
            let from = Addr::from_raw(1 << 44);
            free_range(used(), from, len).expect("user memory is never full")
        };
        if !stay && let Some(kernel) = self.kernel {
            map.extend(kernel.map(self.own.mm, scratch));
        }
        let is_segment = |step: &MapStep| {
            matches!(step, MapStep::Map(Vma { backing: Backing::Segment { .. }, .. }))
        };
        let (segments, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(is_segment);
        map.extend(others);
        for (attachment, pieces) in attachments(segments) {
            attachment.make(self.own.segments, &pieces, scratch, &mut map);
        }
        *layout = with(layout);
        (unmaps, map, kept)
    }
}

/// What one `shmat(2)` has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attachment {
    segment: SegmentId,
    access: Access,
    /// Where the segment's first byte is, or would be.
    base: u64,
}

/// The pieces that are there of each attachment.
fn attachments(steps: Vec<MapStep>) -> BTreeMap<Attachment, Vec<Vma>> {
    let mut attachments: BTreeMap<_, Vec<Vma>> = BTreeMap::new();
    for step in steps {
        let MapStep::Map(vma) = step else { continue };
        let Backing::Segment { segment, offset, access } = vma.backing else { continue };
        let base = vma.range.start().as_raw().wrapping_sub(offset);
        attachments.entry(Attachment { segment, access, base }).or_default().push(vma);
    }
    attachments
}

impl Attachment {
    fn make(
        self,
        lengths: &BTreeMap<SegmentId, u64>,
        pieces: &[Vma],
        scratch: impl FnOnce(u64) -> AddrRange,
        steps: &mut Vec<MapStep>,
    ) {
        let Self { segment, access, base: _ } = self;
        let len = lengths[&segment];
        if let [whole] = pieces
            && whole.range.len() == len
        {
            steps.push(MapStep::Attach { segment, at: whole.range.start(), access });
        } else {
            let all = scratch(len);
            steps.push(MapStep::Attach { segment, at: all.start(), access });
            for piece in pieces {
                let Backing::Segment { offset, .. } = piece.backing else { continue };
                let from = all.start().checked_add(offset);
                let from = from.and_then(|at| AddrRange::with_len(at, piece.range.len()));
                let from = from.expect("it was checked that pieces are in the segment");
                steps.push(MapStep::Move { from, to: piece.range });
            }
            steps.push(MapStep::Unmap(all));
        }
        for piece in pieces {
            steps.push(MapStep::Protect(piece.range, piece.prot));
            if !piece.advice.is_empty() {
                steps.push(MapStep::Advise(piece.range, piece.advice));
            }
        }
    }
}

/// Whether it takes `mmap(2)`, and not at the very end.
fn is_mapped(vma: &Vma) -> bool {
    !vma.is_special() && !vma.is_ring()
}
