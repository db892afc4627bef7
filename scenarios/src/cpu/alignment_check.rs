//! The AC flag, with which an unaligned access of the thread raises SIGBUS: also one by code that a
//! checkpointer runs in its place.
//!
//! Verified: the flag is set afterwards, and all registers hold what they held.
//! CRIU: the dump fails, as its own code in the target is hit.

use super::registers::{FLAGS, hold};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Bit 18 of rflags.
const AC: u64 = 1 << 18;

fn run(cx: &mut Context) {
    hold(cx, FLAGS | AC);
}
