//! What `madvise` leaves on a mapping: not inherited, wiped on fork, left out of core dumps, huge
//! pages wanted or not, mergeable, random or sequential access.
//!
//! Verified: contents; what a child forked afterwards finds. The flags themselves are in `smaps`,
//! which the harness compares.
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const ADVICE: [i32; 8] = [
    libc::MADV_DONTFORK,
    libc::MADV_WIPEONFORK,
    libc::MADV_DONTDUMP,
    libc::MADV_HUGEPAGE,
    libc::MADV_NOHUGEPAGE,
    libc::MADV_MERGEABLE,
    libc::MADV_RANDOM,
    libc::MADV_SEQUENTIAL,
];

fn run(cx: &mut Context) {
    let areas = ADVICE.map(|advice| {
        let area = Area::anonymous(4 * PAGE);
        let taken = area.advise(advice).is_ok();
        area.fill(advice as u64);
        (advice, area, taken)
    });
    for (advice, _, taken) in areas {
        // Same-page merging may not be built into the kernel.
        check!(taken || advice == libc::MADV_MERGEABLE, "madvise {advice} failed");
    }

    cx.ready_and_wait();

    areas.iter().for_each(|(advice, area, _)| area.verify(*advice as u64, "contents"));
    let (not_inherited, wiped) = (areas[0].1, areas[1].1);
    let child = cx.fork(|_| wiped.verify_zero("memory wiped on fork"));
    cx.reap(child);
    let child = cx.fork(|_| {
        // SAFETY: plain numbers; the runtime's handler would print.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        not_inherited.read(0);
    });
    let end = sys::wait_siginfo(child, libc::WEXITED).ok();
    check!(
        end.is_some_and(|(_, status)| status == libc::SIGSEGV),
        "a child has memory it must not inherit: {end:?}"
    );
}
