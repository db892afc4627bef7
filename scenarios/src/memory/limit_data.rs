//! A soft limit of data (`RLIMIT_DATA`) that was lowered below what private memory there is.
//!
//! Verified: contents; the limit; that there can be no more until it is raised again.
//! CRIU: works.

use rustix::process::Resource;

use crate::sys::{Area, PAGE};
use crate::{Context, Scenario};

use super::limited::{can_map, lower};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let area = Area::anonymous(512 * PAGE);
    area.pages(0, 512).fill(1);
    let limit = lower(Resource::Data, 1 << 20);

    cx.ready_and_wait();

    check!(!can_map(64 * PAGE), "the limit does not hold");
    limit.verify_and_raise();
    check!(can_map(64 * PAGE), "what is allowed again cannot be mapped");
    area.pages(0, 512).verify(1, "memory beyond the limit");
}
