//! Alternate signal stacks: one for each thread, with `SS_AUTODISARM`, and disabled.
//!
//! Verified: address, size and flags of each.
//! CRIU: works.

use crate::sys::Area;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// `include/uapi/linux/signal.h`.
const SS_AUTODISARM: i32 = 1 << 31;

fn run(cx: &mut Context) {
    let threads = [0, SS_AUTODISARM, libc::SS_DISABLE].map(|flags| {
        cx.thread(move |cx| {
            let stack = Area::anonymous(64 * 1024);
            sys::set_altstack(stack, flags);
            let before = sys::altstack();
            cx.arrive(sys::gettid());
            cx.wait_go();
            check_eq!(sys::altstack(), before, "the stack set with flags {flags:#x}");
        })
    });
    let stack = Area::anonymous(32 * 1024);
    sys::set_altstack(stack, 0);
    cx.ready_and_wait();
    check_eq!(sys::altstack(), (stack.start(), 0, stack.len()), "the main thread's stack");
    for (thread, _) in threads {
        check!(thread.join().is_ok(), "a thread panicked");
    }
}
