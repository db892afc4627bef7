//! Restartable sequences that a stop has interrupted.
//!
//! A task that loses the processor within a critical section has to begin it
//! again. The kernel sees to that when the task goes back to its program
//! (`rseq_ip_fixup` in `kernel/rseq.c`), unless the task is elsewhere by then:
//! it takes that for the end of the section, as of any section left by a jump.
//! A puppet is elsewhere, so whoever sends it there has to abort the section.

use std::io::IoSliceMut;

use dormouse_kernel::ptrace::Rseq;
use dormouse_kernel::remote_memory::{self, Mem};
use dormouse_kernel::{Addr, AddrRange};

/// Where `struct rseq` has the address of the section.
const SECTION: u64 = 8;

/// Where the section is that each of some tasks of one process says it is in.
pub(crate) fn sections(mem: &Mem, tasks: &[Rseq]) -> Vec<Option<Addr>> {
    let place = |rseq: &Rseq| AddrRange::with_len(rseq.addr.checked_add(SECTION)?, 8);
    let places: Option<Vec<_>> = tasks.iter().map(place).collect();
    let mut words = vec![[0; 8]; tasks.len()];
    let at_once = places.is_some_and(|places| {
        let mut slices: Vec<_> = words.iter_mut().map(|word| IoSliceMut::new(word)).collect();
        remote_memory::read(mem.pid(), &places, &mut slices)
            .is_ok_and(|read| read == 8 * tasks.len())
    });
    if !at_once {
        for (rseq, word) in tasks.iter().zip(&mut words) {
            // What cannot be read is no section.
            let read = rseq.addr.checked_add(SECTION).map(|at| mem.read_exact(at, word));
            if !matches!(read, Some(Ok(()))) {
                *word = [0; 8];
            }
        }
    }
    let words = words.into_iter().map(u64::from_ne_bytes);
    words.map(|word| (word != 0).then(|| Addr::from_raw(word))).collect()
}

/// Where a task goes on that was stopped at `at`, if that is within the
/// critical section described at `section`.
pub(crate) fn abort(mem: &Mem, section: Addr, at: u64) -> Option<u64> {
    let mut bytes = [0; 32];
    // The kernel ends a program whose section it cannot read, when it gets there.
    mem.read_exact(section, &mut bytes).ok()?;
    abort_of(&bytes, at)
}

/// The same for the bytes of `struct rseq_cs`: version and flags, first
/// instruction, length in bytes, abort handler.
fn abort_of(section: &[u8; 32], at: u64) -> Option<u64> {
    let word = |index: usize| u64::from_ne_bytes(std::array::from_fn(|i| section[index * 8 + i]));
    let (start, length, abort) = (word(1), word(2), word(3));
    (at.wrapping_sub(start) < length).then_some(abort)
}

#[cfg(test)]
mod tests {
    use super::abort_of;

    #[test]
    fn only_what_is_within_is_aborted() {
        let words = [0_u64, 0x1000, 0x10, 0x2000].map(u64::to_ne_bytes);
        let section = words.as_flattened().try_into().unwrap();
        assert_eq!(abort_of(section, 0x0fff), None);
        assert_eq!(abort_of(section, 0x1000), Some(0x2000));
        assert_eq!(abort_of(section, 0x100f), Some(0x2000));
        assert_eq!(abort_of(section, 0x1010), None);
    }
}
