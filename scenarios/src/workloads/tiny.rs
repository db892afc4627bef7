//! One process that sleeps.

use crate::Context;

pub(super) fn run(cx: &mut Context, _: usize) {
    cx.ready_and_wait();
}
