//! A flag that one thread spins on, in assembly, while another waits for `go`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Context, sys};

/// Zero while the spinning thread must hold its registers. Each scenario is a process of its own.
pub(crate) static FLAG: AtomicU64 = AtomicU64::new(0);

/// Says ready once `spin` has had time to reach its loop, and lets it out of there at `go`.
/// `spin` runs in this thread, the waiting is done by another.
pub(crate) fn over_checkpoint(cx: &Context, spin: impl FnOnce()) {
    let (thread, _) = cx.thread(|cx| {
        cx.arrive(sys::gettid());
        // The loop is reached in microseconds; there is nothing to see from outside.
        sys::nap(std::time::Duration::from_millis(50));
        cx.ready_and_wait();
        FLAG.store(1, Ordering::SeqCst);
    });
    spin();
    check!(thread.join().is_ok(), "the waiting thread panicked");
}
