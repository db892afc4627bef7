//! Memory whose pages the kernel may drop when it is short of memory (`MAP_DROPPABLE`).
//!
//! Verified: every page has what was written to it, or is zero, as a page that was dropped; it can be
//! written again, and a child forked afterwards finds none of it. The flag itself is in `smaps`, which the
//! harness compares.
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(no_droppable);

const MAP_DROPPABLE: i32 = 0x08;
const PROT: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn no_droppable() -> Option<String> {
    match Area::map_at(0, PAGE, PROT, MAP_DROPPABLE, None) {
        Ok(area) => {
            area.unmap();
            None
        }
        Err(_) => Some("this kernel has no MAP_DROPPABLE".to_owned()),
    }
}

fn run(cx: &mut Context) {
    let area = Area::map(16 * PAGE, PROT, MAP_DROPPABLE, None);
    let page = |number: usize| area.pages(number, 1);
    (0..16).for_each(|number| page(number).fill(number as u64));

    cx.ready_and_wait();

    for number in 0..16 {
        let page = page(number);
        if page.bytes().iter().any(|&byte| byte != 0) {
            page.verify(number as u64, "a page that was not dropped");
        }
    }
    area.fill(99);
    let child = cx.fork(|_| area.verify_zero("what a child has of it"));
    cx.reap(child);
}
