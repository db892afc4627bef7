//! The heap of `brk(2)`: its contents, and that it can grow and shrink from where it ended.
//!
//! Verified: the break, all bytes below it, growth in place, and shrinking back.
//! CRIU: works.

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// The break itself; libc's allocator must not be used between two calls that move it, so nothing
/// here allocates but the messages of failures.
fn brk(to: usize) -> usize {
    // SAFETY: the break only moves upwards from where the allocator has it, or back to there.
    unsafe { libc::syscall(libc::SYS_brk, to) as usize }
}

const GROWTH: usize = 3 * 4096 * 64 + 100;

fn word(at: usize) -> *mut u64 {
    std::ptr::with_exposed_provenance_mut(at)
}

fn run(cx: &mut Context) {
    let start = brk(0);
    let end = brk(start + GROWTH);
    check_eq!(end, start + GROWTH, "the break, moved");
    let first = start.next_multiple_of(8);
    for at in (first..end - 8).step_by(8) {
        // SAFETY: between the old break and the new one, which is ours alone.
        unsafe { word(at).write_volatile(at as u64 ^ 0x1234) };
    }

    cx.ready_and_wait();

    check_eq!(brk(0), end, "the break");
    // SAFETY: as above.
    let wrong = (first..end - 8)
        .step_by(8)
        .find(|&at| unsafe { word(at).read_volatile() } != at as u64 ^ 0x1234);
    check_eq!(wrong, None, "the first word on the heap that differs");
    check_eq!(brk(end + (1 << 20)), end + (1 << 20), "the break, moved up again");
    let fresh = (end + 4096).next_multiple_of(8);
    // SAFETY: below the new break.
    check_eq!(unsafe { word(fresh).read_volatile() }, 0, "new heap");
    // SAFETY: as above.
    unsafe { word(fresh).write_volatile(1) };
    check_eq!(brk(end), end, "the break, moved back");
}
