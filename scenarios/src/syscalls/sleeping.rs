//! What the scenarios about timed waits have in common.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Context, sys};

/// How long a timed wait is asked to take.
pub(super) const WAIT: Duration = Duration::from_millis(2500);

/// How long it has been under way when the scenario says ready. A wait that is begun again from
/// the start is this much too late.
const HEADSTART: Duration = Duration::from_millis(1200);

/// How late a wait may be on a loaded machine. It must be less than `HEADSTART`.
const SLACK: Duration = Duration::from_millis(700);

/// Runs `wait`, which blocks in `syscall` for [`WAIT`], in a thread of its own over the
/// checkpoint. It must return `expected`, no earlier than asked, and later by no more than the
/// tree was held up.
pub(super) fn over_checkpoint<T: PartialEq + std::fmt::Debug + Send + 'static>(
    cx: &Context,
    syscall: libc::c_long,
    expected: T,
    wait: impl FnOnce() -> T + Send + 'static,
) {
    let (tell, hear) = std::sync::mpsc::channel();
    let after = cx.clone();
    let thread = thread::spawn(move || {
        tell.send(sys::gettid()).expect("the main thread listens");
        let began = Instant::now();
        let result = wait();
        let took = began.elapsed();
        // The thread is still there to be compared if the wait ends before the restore is done.
        after.wait_go();
        (result, took)
    });
    let tid = hear.recv().expect("the thread told its tid");
    cx.await_blocked(tid, syscall);
    sys::nap(HEADSTART);
    let held = cx.ready_and_wait();
    let (found, took) = thread.join().expect("the thread did not panic");
    check_eq!(found, expected, "result of syscall {syscall}");
    check!(took >= WAIT, "syscall {syscall} took {took:?}, less than {WAIT:?}");
    let latest = WAIT + held + SLACK;
    check!(took <= latest, "syscall {syscall} took {took:?}, more than {latest:?}");
}
