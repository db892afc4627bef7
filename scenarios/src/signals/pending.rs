//! Blocked signals that are pending: for the process, for one thread, for another.
//!
//! Verified: who sees which pending; each is delivered once, with its sender.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const PROCESS: i32 = libc::SIGUSR1;
const MAIN: i32 = libc::SIGUSR2;
const THREAD: i32 = libc::SIGTERM;

/// Takes one signal of the set, if there is one: (number, code, payload).
fn take(set: u64) -> Option<(i32, i32, usize)> {
    sys::take_signal(set).map(|info| (info.signo, info.code, info.value))
}

fn run(cx: &mut Context) {
    let all = sys::sigset(&[PROCESS, MAIN, THREAD]);
    sys::block(all);
    let pid = std::process::id() as i32;
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(sys::pending() & all, sys::sigset(&[PROCESS, THREAD]), "pending for the thread");
        check_eq!(
            take(sys::sigset(&[THREAD])),
            Some((THREAD, libc::SI_QUEUE, 33)),
            "the thread's signal"
        );
        check_eq!(take(sys::sigset(&[THREAD])), None, "the thread's signal again");
    });
    check!(sys::queue(pid, None, PROCESS, 11).is_ok(), "signalling the process");
    check!(sys::queue(pid, Some(pid), MAIN, 22).is_ok(), "signalling the main thread");
    check!(sys::queue(pid, Some(tid), THREAD, 33).is_ok(), "signalling the thread");
    // A standard signal is pending once, with what the first brought.
    check!(sys::queue(pid, None, PROCESS, 12).is_ok(), "signalling the process again");

    cx.ready_and_wait();

    check_eq!(sys::pending() & all, sys::sigset(&[PROCESS, MAIN]), "pending for the main thread");
    check!(thread.join().is_ok(), "the thread panicked");
    // A thread's own come first (`signal(7)`).
    check_eq!(take(all), Some((MAIN, libc::SI_QUEUE, 22)), "the main thread's signal");
    check_eq!(take(all), Some((PROCESS, libc::SI_QUEUE, 11)), "the process's signal");
    check_eq!(take(all), None, "more signals");
}
