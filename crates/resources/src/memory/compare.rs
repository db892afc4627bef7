//! Finding again what processes had in common, where an image has a copy for each.
//!
//! That is how CRIU stores memory. A page which a process had in common with its parent is equal
//! to the parent's, at the same address. So equal pages get the parent's source.

use dormouse_kernel::{AddrRange, PAGE_SIZE};
use std::ops::ControlFlow;

use super::contents::{ContentRun, Contents, PageSource, overlaps};
use super::error::Result;
use super::saved::PagesFiles;
use super::survey::push_joined;
use super::vma::Vma;
use super::workers::{self, Buffer, Chunk, Turnstile};

/// Two processes to compare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) parent: (&'a [Vma], &'a Contents),
    pub(super) child: (&'a [Vma], &'a Contents),
}

/// Pages at one address in two processes, with different sources.
struct Piece {
    pair: usize,
    range: AddrRange,
    parent: PageSource,
    child: PageSource,
}

/// For each pair, where the contents are equal. Also says how many pages were compared.
pub(super) fn equal_pages(
    pairs: &[Pair<'_>],
    files: &PagesFiles,
) -> Result<(Vec<Vec<AddrRange>>, u64)> {
    let pieces: Vec<Piece> =
        pairs.iter().enumerate().flat_map(|(number, pair)| pieces(number, *pair)).collect();
    let chunks = Chunk::cut(pieces.iter().map(|piece| piece.range.len()));
    let equal = Turnstile::new(vec![Vec::new(); pairs.len()]);
    let begin = <[Buffer; 2]>::default;
    let work = |buffers: &mut [Buffer; 2], job: usize| {
        let chunk = chunks[job];
        let mut found = Vec::new();
        let result =
            chunk.parts(&pieces, |piece| piece.range.len()).try_for_each(|(number, skip, len)| {
                let piece = &pieces[number];
                let [parents, childs] =
                    buffers.each_mut().map(|buffer| &mut buffer[..len as usize]);
                files.read(piece.parent.skip(skip), parents)?;
                files.read(piece.child.skip(skip), childs)?;
                let pages = parents.chunks_exact(PAGE).zip(childs.chunks_exact(PAGE));
                for (page, (ours, theirs)) in (0..).zip(pages) {
                    if ours == theirs {
                        let at = piece.range.start().checked_add(skip + page * PAGE_SIZE);
                        let page = at.and_then(|at| AddrRange::with_len(at, PAGE_SIZE));
                        found.push((piece.pair, page.expect("inside of the piece")));
                    }
                }
                Ok(())
            });
        if result.is_err() {
            equal.break_down();
        }
        equal.pass(job, |equal| {
            found.into_iter().for_each(|(pair, page)| push_joined(&mut equal[pair], page));
        });
        result.map(|()| chunk.bytes)
    };
    workers::run(chunks.len(), begin, work, &mut |_| ControlFlow::Continue(()))?;
    let compared = pieces.iter().map(|piece| piece.range.pages()).sum();
    Ok((equal.into_inner(), compared))
}

const PAGE: usize = PAGE_SIZE as usize;

/// Where in two layouts private pages of one can be pages of the other.
/// (Huge ones are not: to take back one that only others are to have is to take
/// back what is beside it.)
pub(super) fn inheritable(parent: &[Vma], child: &[Vma]) -> Vec<AddrRange> {
    let mut ranges = Vec::new();
    overlaps(
        parent,
        |vma| vma.range,
        child,
        |vma| vma.range,
        |theirs, ours| {
            if theirs.is_private() && theirs.huge.is_none() && theirs.is_same_as(ours) {
                let range = theirs.range.intersection(ours.range).expect("they overlap");
                push_joined(&mut ranges, range);
            }
        },
    );
    ranges
}

fn pieces(number: usize, Pair { parent, child }: Pair<'_>) -> Vec<Piece> {
    let ranges = inheritable(parent.0, child.0);
    let (ours, theirs) = (child.1.within(&ranges), parent.1.within(&ranges));
    let mut pieces = Vec::new();
    overlaps(theirs.runs(), range, ours.runs(), range, |theirs, ours| {
        if let (Some(theirs), Some(ours)) = (theirs.cut(ours.range), ours.cut(theirs.range))
            && theirs.source != ours.source
        {
            let (parent, child) = (theirs.source, ours.source);
            pieces.push(Piece { pair: number, range: ours.range, parent, child });
        }
    });
    pieces
}

fn range(run: &ContentRun) -> AddrRange {
    run.range
}
