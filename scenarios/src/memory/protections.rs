//! Every protection: none, and all combinations of reading, writing and executing; contents under a
//! protection that forbids looking at them.
//!
//! Verified: contents once they can be read; that what is forbidden still faults.
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const R: i32 = libc::PROT_READ;
const W: i32 = libc::PROT_WRITE;
const X: i32 = libc::PROT_EXEC;
const ALL: [i32; 8] = [libc::PROT_NONE, R, W, R | W, X, R | X, W | X, R | W | X];

/// Does the access kill a child?
fn faults(cx: &Context, access: impl Fn()) -> bool {
    let child = cx.fork(|_| {
        // SAFETY: plain numbers; the runtime's handler would print.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        access();
    });
    sys::wait_siginfo(child, libc::WEXITED)
        .ok()
        .is_some_and(|(code, status)| code != libc::CLD_EXITED && status == libc::SIGSEGV)
}

fn run(cx: &mut Context) {
    let areas = ALL.map(|prot| {
        let area = Area::anonymous(4 * PAGE);
        area.fill(prot as u64);
        area.protect(prot);
        area
    });
    let pristine = Area::map(16 * PAGE, libc::PROT_NONE, libc::MAP_PRIVATE, None);
    // Pages of one mapping with protections in turn.
    let striped = Area::anonymous(8 * PAGE);
    striped.fill(99);
    (0..8).for_each(|page| striped.pages(page, 1).protect(ALL[page]));

    // On x86, what can be written can be read, and what can be executed as well unless the
    // processor has protection keys.
    let forbids_reads = areas.map(|area| faults(cx, || _ = area.read(0)));
    check!(forbids_reads[0], "no protection forbids a read");

    cx.ready_and_wait();

    for ((area, prot), forbids_reads) in areas.into_iter().zip(ALL).zip(forbids_reads) {
        check_eq!(faults(cx, || _ = area.read(0)), forbids_reads, "a read under protection {prot}");
        check_eq!(
            faults(cx, || area.write(0, 1)),
            prot & W == 0,
            "a write under protection {prot}"
        );
        area.protect(R | W);
        area.verify(prot as u64, "contents");
    }
    pristine.protect(R | W);
    pristine.verify_zero("memory that could never be touched");
    striped.protect(R | W);
    striped.verify(99, "striped memory");
}
