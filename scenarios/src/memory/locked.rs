//! Locked memory: by `mlock`, `mlock2(MLOCK_ONFAULT)` and `MAP_LOCKED`.
//!
//! Verified: contents; what is locked is present, though never touched. How much is locked is in
//! `status` and `smaps`, which the harness compares.
//! CRIU: locks at once what was to be locked on fault.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// `include/uapi/asm-generic/mman.h`.
const MLOCK_ONFAULT: u32 = 1;

fn lock(area: Area, flags: u32) {
    // SAFETY: locking changes no contents.
    let result = unsafe { libc::mlock2(area.pointer().cast(), area.len(), flags) };
    check_eq!(result, 0, "mlock2 with flags {flags}");
}

fn run(cx: &mut Context) {
    let written = Area::anonymous(8 * PAGE);
    written.fill(1);
    lock(written, 0);
    let untouched = Area::anonymous(8 * PAGE);
    lock(untouched, 0);
    let on_fault = Area::anonymous(8 * PAGE);
    lock(on_fault, MLOCK_ONFAULT);
    on_fault.pages(2, 1).fill(2);
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let mapped = Area::map(4 * PAGE, prot, libc::MAP_PRIVATE | libc::MAP_LOCKED, None);

    cx.ready_and_wait();

    for area in [written, untouched, mapped] {
        check!(sys::present(area).iter().all(|&p| p), "a locked page is not present");
    }
    check_eq!(
        sys::present(on_fault),
        [0, 1, 2, 3, 4, 5, 6, 7].map(|p| p == 2),
        "pages locked on fault"
    );
    written.verify(1, "written memory");
    on_fault.pages(2, 1).verify(2, "memory locked on fault");
    untouched.verify_zero("untouched memory");
}
