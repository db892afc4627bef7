//! Private anonymous memory: written everywhere, here and there, only read, never touched.
//!
//! Verified: every word; that a page written after the restore keeps what was written.
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

const PAGES: usize = 1024;

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let full = Area::anonymous(PAGES * PAGE);
    full.fill(1);
    let dotted = Area::anonymous(PAGES * PAGE);
    for page in (0..PAGES).step_by(7) {
        dotted.pages(page, 1).fill(page as u64);
    }
    let read = Area::anonymous(64 * PAGE);
    read.verify_zero("fresh memory");
    let untouched = Area::anonymous(64 * PAGE);
    // Written, then thrown away: zero again.
    let dropped = Area::anonymous(64 * PAGE);
    dropped.fill(9);
    check!(dropped.advise(libc::MADV_DONTNEED).is_ok(), "MADV_DONTNEED");

    cx.ready_and_wait();

    full.verify(1, "full area");
    for page in 0..PAGES {
        let area = dotted.pages(page, 1);
        if page % 7 == 0 {
            area.verify(page as u64, "page written before");
        } else {
            area.verify_zero("page never written");
        }
    }
    for (area, what) in [(read, "only read"), (untouched, "untouched"), (dropped, "dropped")] {
        area.verify_zero(what);
        area.fill(77);
        area.verify(77, what);
    }
}
