//! As many mappings as there may be (`vm.max_map_count`).
//!
//! Verified: the dump is refused, naming the limit; all that is mapped is as before.
//! CRIU: fails to dump it.

use crate::memory::most_mappings::make;
use crate::sys::PAGE;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("vm.max_map_count");

fn run(cx: &mut Context) {
    let area = make(2);
    cx.ready_and_wait();
    let wrong = (0..area.len() / PAGE).find(|&page| area.read(page * PAGE) != page as u64);
    check_eq!(wrong, None, "the first page that differs");
}
