//! Threads that are to be told, each by a signal of its own, when their parent ends.
//!
//! Verified: nobody is told, since whoever restores the tree is not their parent, and they have
//! their signals still.
//! CRIU: works for whom it restores below others; the root is told of CRIU's end.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const TOLD: [i32; 2] = [libc::SIGUSR1, 40];

fn is_told(signal: i32) {
    // SAFETY: the call takes a number.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
    check_eq!(set, 0, "PR_SET_PDEATHSIG");
}

fn told() -> i32 {
    let mut signal = 0;
    // SAFETY: the kernel writes a number.
    let got = unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
    check_eq!(got, 0, "PR_GET_PDEATHSIG");
    signal
}

fn run(cx: &mut Context) {
    sys::block(!0);
    is_told(TOLD[0]);
    let (begun, await_begun) = std::sync::mpsc::channel();
    let (go, await_go) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        is_told(TOLD[1]);
        begun.send(()).expect("the first thread waits");
        await_go.recv().expect("the first thread says when");
        told()
    });
    await_begun.recv().expect("the other thread has begun");

    cx.ready_and_wait();

    go.send(()).expect("the other thread waits");
    let other = other.join().expect("the other thread ends");
    check_eq!([told(), other], TOLD, "the signals");
    check_eq!(sys::pending() & sys::sigset(&TOLD), 0, "pending signals");
}
