//! A soft limit of address space (`RLIMIT_AS`) that was lowered below what is mapped.
//!
//! Verified: contents; the limit; that nothing more can be mapped until it is raised again.
//! CRIU: cannot dump it.

use rustix::process::Resource;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

use super::limited::{can_map, lower};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let area = Area::anonymous(64 * PAGE);
    area.pages(0, 64).fill(1);
    let limit = lower(Resource::As, 1 << 20);

    cx.ready_and_wait();

    check!(!can_map(64 * PAGE), "the limit does not hold");
    limit.verify_and_raise();
    check!(can_map(64 * PAGE), "what is allowed again cannot be mapped");
    area.pages(0, 64).verify(1, "memory beyond the limit");
}
