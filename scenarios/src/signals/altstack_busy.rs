//! A checkpoint while a handler runs on the alternate stack.
//!
//! Verified: `SS_ONSTACK` is still reported, the handler returns to where the signal hit, the mask it
//! had added goes, and the stack can be used again.
//! CRIU: works.

use std::sync::OnceLock;

use crate::sys::Area;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

static CONTEXT: OnceLock<Context> = OnceLock::new();

extern "C" fn wait(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let before = sys::altstack();
    check_eq!(before.1, libc::SS_ONSTACK, "flags of the stack before");
    let cx = CONTEXT.get().expect("set before the signal");
    cx.ready_and_wait();
    check_eq!(sys::altstack(), before, "the stack in use");
    check_eq!(sys::blocked(), sys::sigset(&[libc::SIGUSR1]), "mask in the handler");
}

fn run(cx: &mut Context) {
    let stack = Area::anonymous(256 * 1024);
    sys::set_altstack(stack, 0);
    sys::handle(libc::SIGUSR1, wait, libc::SA_ONSTACK);
    check!(CONTEXT.set(cx.clone()).is_ok(), "the first to set it");
    let canary = std::hint::black_box([0x5eed_u64; 64]);
    check!(sys::raise(libc::SIGUSR1), "raise");
    check_eq!(std::hint::black_box(canary), [0x5eed; 64], "variables of the interrupted function");
    check_eq!(sys::blocked(), 0, "mask after the handler");
    check_eq!(sys::altstack(), (stack.start(), 0, stack.len()), "the stack after the handler");
}
