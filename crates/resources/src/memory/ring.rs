//! Mappings of the memory of an io_uring.
//!
//! **Kernel object**: a mapping of the file that the ring is (`io_uring_mmap` in
//! `io_uring/memmap.c`). Contents belong to the ring, and are kept with the file.
//!
//! **Image**: a `vma_entry` as of a shared file, with a mark of our own.
//!
//! **Create**: the kernel lets nobody choose the place, nor move the mapping. It takes the highest
//! that is free, or the lowest if none is. So when everything else is mapped, all that is free
//! is filled with memory that cannot be touched, but for the place where the ring belongs.

use dormouse_kernel::io_uring::{OFF_CQ_RING, OFF_SQES};
use dormouse_kernel::{Addr, AddrRange};
use dormouse_puppet::{Arg, Bare, Batch, Slot};

use super::error::{Error, Result};
use super::vma::{Backing, Vma};
use crate::file::FileId;

/// The lowest address that the kernel may choose, and the end of those.
const LOWEST: u64 = 0x1000;
const END: u64 = 0x7fff_ffff_f000;
/// Below this, `vm.mmap_min_addr` forbids memory by default.
const FORBIDDEN: u64 = 0x1_0000;

/// Whether something can be mapped from there on. Parts of mappings begin elsewhere.
pub(super) fn is_offset(offset: u64) -> bool {
    [0, OFF_CQ_RING, OFF_SQES].contains(&offset)
}

/// Maps the rings among `vmas`, which are all that the process is to have. `fetch` adds a call that
/// opens the file.
pub(super) fn place<E: From<Error>>(
    vmas: &[Vma],
    puppet: &mut Bare,
    mut fetch: impl FnMut(&mut Batch, FileId) -> Result<Arg, E>,
) -> Result<(), E> {
    let rings: Vec<_> = vmas.iter().filter(|vma| vma.is_ring()).collect();
    let Some(shortest) = rings.iter().map(|vma| vma.range.len()).min() else {
        return Ok(());
    };
    let mapped = vmas.iter().filter(|vma| !vma.is_ring()).map(|vma| vma.range);
    let free = gaps(mapped.chain([puppet.room()]).collect(), shortest);
    let mut batch = Batch::new();
    for range in &free {
        let [start, len] = bounds(*range);
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_NORESERVE
            | libc::MAP_FIXED_NOREPLACE;
        let args = [start, len, libc::PROT_NONE.into(), flags.into(), (-1).into(), 0.into()];
        if range.start().as_raw() < FORBIDDEN {
            batch.may_fail(libc::SYS_mmap, args);
        } else {
            batch.call(libc::SYS_mmap, args);
        }
    }
    let mut placed: Vec<(Addr, Slot)> = Vec::new();
    for vma in rings {
        let Backing::Ring { file, offset } = vma.backing else { continue };
        let fd = fetch(&mut batch, file)?;
        let [start, len] = bounds(vma.range);
        batch.call(libc::SYS_munmap, [start, len]);
        let (prot, flags) = (vma.prot.bits().into(), libc::MAP_SHARED.into());
        let args = [0.into(), len, prot, flags, fd, offset.into()];
        placed.push((vma.range.start(), batch.call(libc::SYS_mmap, args)));
        batch.call(libc::SYS_close, [fd]);
    }
    for range in pieces(&free, vmas) {
        batch.call(libc::SYS_munmap, bounds(range));
    }
    let replies = puppet.run(batch).map_err(Error::from)?;
    match placed.iter().find(|(at, slot)| replies.value(slot) != at.as_raw()) {
        Some(&(at, _)) => Err(Error::RingPlace { at }.into()),
        None => Ok(()),
    }
}

fn bounds(range: AddrRange) -> [Arg; 2] {
    [range.start().into(), range.len().into()]
}

/// What is free between mappings, as far as it has `least` bytes at least.
fn gaps(mut mapped: Vec<AddrRange>, least: u64) -> Vec<AddrRange> {
    mapped.sort_unstable_by_key(|range| range.start());
    let mut gaps = Vec::new();
    let mut at = LOWEST;
    let end = Addr::from_raw(END);
    for range in mapped.into_iter().chain(AddrRange::new(end, end)) {
        let to = range.start().as_raw().min(END);
        for (from, to) in split(at, to) {
            let gap = AddrRange::new(Addr::from_raw(from), Addr::from_raw(to));
            gaps.extend(gap.filter(|gap| gap.len() >= least));
        }
        at = at.max(range.end().as_raw());
    }
    gaps
}

/// In two, where memory may be forbidden below and not above.
fn split(from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
    let low = (from, to.min(FORBIDDEN));
    let high = (from.max(FORBIDDEN), to);
    [low, high].into_iter().filter(|(from, to)| from < to)
}

/// What of `free` is still to be freed when the rings are in it.
fn pieces(free: &[AddrRange], vmas: &[Vma]) -> Vec<AddrRange> {
    let mut pieces = Vec::new();
    let mut rings = vmas.iter().filter(|vma| vma.is_ring()).map(|vma| vma.range).peekable();
    for range in free {
        let mut at = range.start();
        while let Some(ring) = rings.next_if(|ring| ring.start() < range.end()) {
            pieces.extend(AddrRange::new(at, ring.start()));
            at = ring.end();
        }
        pieces.extend(AddrRange::new(at, range.end()));
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn ring(page: u64, pages: u64) -> Vma {
        let backing = Backing::Ring { file: FileId::from_raw(1), offset: 0 };
        Vma { backing, ..samples::anonymous(samples::pages(page, pages)) }
    }

    #[test]
    fn all_that_is_free_is_filled_but_the_rings() {
        let mapped = vec![samples::pages(0x100, 1), samples::pages(0x20, 4)];
        let free = gaps(mapped, 0x2000);
        let last = AddrRange::new(Addr::from_raw(0x10_1000), Addr::from_raw(END)).unwrap();
        let all =
            [samples::pages(1, 15), samples::pages(0x10, 0x10), samples::pages(0x24, 0xdc), last];
        assert_eq!(free, all);
        assert_eq!(gaps(vec![last], 0xf_0000), [samples::pages(0x10, 0xf1)]);
        let vmas = [ring(0x24, 2), ring(0x30, 1), ring(0xff, 1)];
        let expected = [
            samples::pages(1, 15),
            samples::pages(0x10, 0x10),
            samples::pages(0x26, 10),
            samples::pages(0x31, 0xce),
            last,
        ];
        assert_eq!(pieces(&free, &vmas), expected);
    }
}
