//! The main thread's stack: deep when the checkpoint comes, and growing deeper afterwards.
//!
//! Verified: every frame on the way back; 3 MiB more of stack below what was there.
//! CRIU: works.

use std::hint::black_box;

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn descend(depth: u64, at_bottom: &mut dyn FnMut()) -> u64 {
    let frame = black_box([depth; 500]);
    let below = if depth == 0 {
        at_bottom();
        0
    } else {
        descend(depth - 1, at_bottom)
    };
    check!(black_box(&frame).iter().all(|&w| w == depth), "the frame at depth {depth} differs");
    below + black_box(&frame)[7]
}

fn run(cx: &mut Context) {
    let sum = descend(200, &mut || {
        cx.ready_and_wait();
        check_eq!(descend(400, &mut || {}), 80_200, "sum of the frames made afterwards");
    });
    check_eq!(sum, 20_100, "sum of the frames made before");
}
