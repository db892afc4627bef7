//! Syscall user dispatch whose selector blocks all calls.
//!
//! Verified: the dump is refused, naming process and kind; the target goes on, and calls are let
//! through again when the selector says so.
//! CRIU: kills the process by its own calls.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::cpu::spin::{FLAG, over_checkpoint};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("syscall user dispatch").missing(|| {
        // SAFETY: off is what it is.
        let known = unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0) } == 0;
        (!known).then(|| "the kernel has no syscall user dispatch".into())
    });

const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;

static SELECTOR: AtomicU8 = AtomicU8::new(ALLOW);

fn run(cx: &mut Context) {
    over_checkpoint(cx, || {
        // SAFETY: the selector is static.
        let on = unsafe {
            libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, SELECTOR.as_ptr() as usize)
        };
        check_eq!(on, 0, "PR_SET_SYSCALL_USER_DISPATCH");
        SELECTOR.store(BLOCK, Ordering::SeqCst);
        while FLAG.load(Ordering::SeqCst) == 0 {
            std::hint::spin_loop();
        }
        SELECTOR.store(ALLOW, Ordering::SeqCst);
    });
}
