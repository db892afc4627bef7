//! 64 GiB of address space without reservation, with single pages written far apart.
//!
//! Verified: every written page, its unwritten neighbours, and that no more has become present.
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const PAGES: usize = (64 << 30) / PAGE;

/// Numbers of the pages written: no regular distance, first and last among them.
fn written() -> impl Iterator<Item = usize> {
    (0..400).map(|i: usize| i * i * 104 % (PAGES - 1)).chain([PAGES - 1])
}

fn run(cx: &mut Context) {
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let area = Area::map(PAGES * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, None);
    check!(area.advise(libc::MADV_NOHUGEPAGE).is_ok(), "MADV_NOHUGEPAGE");
    written().for_each(|page| area.pages(page, 1).fill(page as u64));

    cx.ready_and_wait();

    for page in written() {
        let around = area.pages(page.saturating_sub(1), (PAGES - page.saturating_sub(1)).min(3));
        let there = sys::present(around);
        area.pages(page, 1).verify(page as u64, "a written page");
        check!(there.contains(&true), "page {page} is not present");
    }
    let part = area.pages(PAGES / 2, 1 << 18);
    let expected = written().filter(|p| (PAGES / 2..PAGES / 2 + (1 << 18)).contains(p)).count();
    check_eq!(
        sys::present(part).iter().filter(|&&p| p).count(),
        expected,
        "pages present in a GiB"
    );
}
