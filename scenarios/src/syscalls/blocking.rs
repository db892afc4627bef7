//! What the scenarios about blocking calls have in common.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Context, sys};

/// How long a timed wait is asked to take.
pub(super) const WAIT: Duration = Duration::from_millis(2000);

/// How long it has been under way when the scenario says ready. A wait that is begun again from
/// the start is this much too late.
const HEADSTART: Duration = Duration::from_millis(1000);

/// How late a wait may be on a loaded machine. It must be less than `HEADSTART`.
const SLACK: Duration = Duration::from_millis(600);

/// How long a call must stay blocked after `go` to be believed.
const STILL: Duration = Duration::from_millis(100);

/// [`WAIT`] as the kernel takes it.
pub(super) fn wait_time() -> libc::timespec {
    libc::timespec { tv_sec: WAIT.as_secs() as i64, tv_nsec: WAIT.subsec_nanos().into() }
}

/// What a raw call returned: its result or its errno.
pub(super) fn outcome(result: libc::c_long) -> Result<i64, i32> {
    sys::done(result).map_err(|e| e.raw_os_error().unwrap_or(0))
}

/// Runs `wait`, which blocks in `syscall` for [`WAIT`], in a thread of its own over the
/// checkpoint. It must return `expected`, no earlier than asked, and later by no more than the
/// tree was held up.
pub(super) fn for_a_time<T: PartialEq + Debug + Send + 'static>(
    cx: &Context,
    syscall: libc::c_long,
    expected: &T,
    mut wait: impl FnMut() -> T + Send + 'static,
) {
    let (tell, hear) = std::sync::mpsc::channel();
    let after = cx.clone();
    let thread = thread::spawn(move || {
        tell.send(sys::gettid()).expect("the main thread listens");
        let began = Instant::now();
        let result = wait();
        let took = began.elapsed();
        // The thread is still there to be compared if the wait ends before the restore is done, and so
        // are the descriptors `wait` owns.
        after.wait_go();
        (result, took)
    });
    let tid = hear.recv().expect("the thread told its tid");
    cx.await_blocked(tid, syscall);
    sys::nap(HEADSTART);
    let held = cx.ready_and_wait();
    let (found, took) = thread.join().expect("the thread does not panic");
    check_eq!(found, *expected, "result of syscall {syscall}");
    check!(took >= WAIT, "syscall {syscall} took {took:?}, less than {WAIT:?}");
    let latest = WAIT + held + SLACK;
    check!(took <= latest, "syscall {syscall} took {took:?}, more than {latest:?}");
}

/// Runs `wait`, which blocks in `syscall` until something happens, in a thread of its own over the
/// checkpoint. It must still be blocked after it; then `wake`, given the thread's tid, makes it return
/// `expected`.
pub(super) fn until_woken<T: PartialEq + Debug + Send + 'static>(
    cx: &Context,
    syscall: libc::c_long,
    expected: &T,
    mut wait: impl FnMut() -> T + Send + 'static,
    wake: impl FnOnce(i32),
) {
    let (tell, hear) = std::sync::mpsc::channel();
    let after = cx.clone();
    let thread = thread::spawn(move || {
        tell.send(sys::gettid()).expect("the main thread listens");
        let mask = sys::blocked();
        let result = wait();
        let mask = (mask, sys::blocked());
        after.wait_go();
        check_eq!(mask.1, mask.0, "blocked signals after the call");
        (result, Instant::now())
    });
    let tid = hear.recv().expect("the thread told its tid");
    cx.await_blocked(tid, syscall);
    cx.ready_and_wait();
    sys::nap(STILL);
    let woken = Instant::now();
    wake(tid);
    let (found, returned) = thread.join().expect("the thread does not panic");
    check_eq!(found, *expected, "result of syscall {syscall}");
    check!(returned >= woken, "syscall {syscall} returned before there was a reason to");
}
