//! A `MAP_GROWSDOWN` mapping, grown before the checkpoint, and growing after it.
//!
//! Verified: contents; that touching the page below extends it.
//! CRIU: works.

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    // Room for it to grow into, well clear of the guard gap above other mappings.
    let hole = Area::map(4096 * PAGE, libc::PROT_NONE, libc::MAP_PRIVATE, None);
    hole.unmap();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let at = hole.start() + 3000 * PAGE;
    let area = Area::map_at(at, 4 * PAGE, prot, libc::MAP_PRIVATE | libc::MAP_GROWSDOWN, None)
        .expect("mmap");
    area.fill(1);
    let grown = area.below(8 * PAGE);
    grown.fill(2);

    cx.ready_and_wait();

    area.verify(1, "the mapping");
    grown.verify(2, "what it grew by before");
    let deeper = grown.below(8 * PAGE);
    deeper.fill(3);
    deeper.verify(3, "what it grew by after");
}
