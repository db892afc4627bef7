//! Reserved huge pages that a parent and a child have in common: shared anonymous ones, and private
//! ones of which the child has modified some.
//!
//! Verified: what each of them sees; that what one writes to the shared ones the other sees.
//! CRIU: works.

use super::huge::{HUGE, anonymous, missing};
use crate::sys::PAGE;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(missing);

fn run(cx: &mut Context) {
    let shared = anonymous(2, libc::MAP_SHARED);
    let private = anonymous(2, libc::MAP_PRIVATE);
    shared.pages(HUGE / PAGE, HUGE / PAGE).fill(1);
    private.fill(2);
    let child = cx.fork(|cx| {
        private.pages(HUGE / PAGE, HUGE / PAGE).fill(3);
        cx.arrive(sys::gettid());
        cx.wait_go();
        shared.pages(HUGE / PAGE, HUGE / PAGE).verify(1, "shared huge pages, in the child");
        private.pages(0, HUGE / PAGE).verify(2, "the parent's huge page, in the child");
        private.pages(HUGE / PAGE, HUGE / PAGE).verify(3, "the child's huge page");
        shared.write(0, 77);
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(shared.read(0), 77, "what the child wrote");
    shared.pages(HUGE / PAGE, HUGE / PAGE).verify(1, "shared huge pages");
    private.verify(2, "the parent's huge pages");
}
