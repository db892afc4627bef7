//! A soft limit of the stack (`RLIMIT_STACK`) that was lowered below what there is of it.
//!
//! Verified: every frame on the way back; the limit.
//! CRIU: works.

use std::hint::black_box;

use rustix::process::Resource;

use crate::{Context, Scenario};

use super::limited::lower;

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn descend(depth: u64, at_bottom: &mut dyn FnMut()) {
    let frame = black_box([depth; 500]);
    match depth {
        0 => at_bottom(),
        _ => descend(depth - 1, at_bottom),
    }
    check!(black_box(&frame).iter().all(|&w| w == depth), "the frame at depth {depth} differs");
}

fn run(cx: &mut Context) {
    // More than is used from then on, so that nothing needs to grow.
    descend(300, &mut || ());
    descend(200, &mut || {
        let limit = lower(Resource::Stack, 64 << 10);
        cx.ready_and_wait();
        limit.verify_and_raise();
    });
}
