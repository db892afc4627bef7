//! A System V shared memory segment of a family: attached before the fork by both, and by a child
//! alone at another place.
//!
//! Verified: contents for all, and what one writes the others see.
//! CRIU: refuses (only in an IPC namespace of the tree's own).

use super::{Segment, detach};
use crate::sys::{self, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let segment = Segment::make(libc::IPC_PRIVATE, 16 * PAGE, 0o600);
    let area = segment.attach(0);
    area.fill(1);
    let heir = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        area.verify(1, "the heir's view");
        area.write(0, 41);
    });
    let other = cx.fork(|cx| {
        check!(detach(area).is_ok(), "shmdt");
        let elsewhere = segment.attach(0);
        cx.arrive(sys::gettid());
        cx.wait_go();
        crate::context::until("the heir's word", || elsewhere.read(0) == 41);
        elsewhere.write(8, 42);
    });
    [heir, other].iter().for_each(|&child| cx.await_arrival(child));

    cx.ready_and_wait();

    cx.reap(heir);
    cx.reap(other);
    check_eq!([area.read(0), area.read(8)], [41, 42], "what the children wrote");
    check_eq!(segment.attached(), 1, "times attached at the end");
    segment.remove();
}
