//! Children that go on after a stop, whose parent has not waited for that yet.
//!
//! Verified: the parent's `waitid(WCONTINUED)` finds each of them once, one that it has waited for not at
//! all; SIGCHLD waits for a parent that has not taken it, and for no other.
//! CRIU: forgets that they have been stopped; a dump with `-R` leaves their parent SIGCHLD.

use crate::context::{until, until_forever};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const LOOK: i32 = libc::WCONTINUED | libc::WNOHANG;
const CONTINUED: (i32, i32) = (libc::CLD_CONTINUED, libc::SIGCONT);

/// Stops a child, and has it go on.
fn stop_and_go(cx: &Context, child: i32) {
    sys::kill(child, libc::SIGSTOP);
    let stop = sys::wait_siginfo(child, libc::WSTOPPED).ok();
    check_eq!(stop, Some((libc::CLD_STOPPED, libc::SIGSTOP)), "stop of {child}");
    sys::kill(child, libc::SIGCONT);
    let told = || sys::wait_siginfo(child, LOOK | libc::WNOWAIT).ok() == Some(CONTINUED);
    until("the child to go on", told);
    cx.await_state(child, 'S');
}

/// A child that lives until the file is there: one that has ended can no longer be seen to go on.
fn sleeper(cx: &Context, file: &str) -> i32 {
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        until_forever(|| cx.path(file).exists());
    });
    cx.await_arrival(child);
    child
}

fn verify(child: i32) {
    check_eq!(sys::wait_siginfo(child, LOOK).ok(), Some(CONTINUED), "continuation of {child}");
    check_eq!(sys::wait_siginfo(child, LOOK).ok(), Some((0, 0)), "the same once more");
}

fn run(cx: &mut Context) {
    sys::block(sys::sigset(&[libc::SIGCHLD]));
    let plain = sleeper(cx, "seen");
    let threaded = cx.fork(|cx| {
        let (thread, _) = cx.thread(|cx| {
            cx.arrive(sys::gettid());
            until_forever(|| cx.path("seen").exists());
        });
        cx.arrive(sys::gettid());
        check!(thread.join().is_ok(), "the thread panicked");
    });
    cx.await_arrival(threaded);
    let waited_for = sleeper(cx, "seen");
    let never = sleeper(cx, "seen");
    // One that stays stopped does not go on, whatever it did before.
    let stopped = sleeper(cx, "seen");
    for child in [plain, threaded, waited_for, stopped] {
        stop_and_go(cx, child);
    }
    check_eq!(sys::wait_siginfo(waited_for, LOOK).ok(), Some(CONTINUED), "waiting for one");
    sys::kill(stopped, libc::SIGSTOP);
    cx.await_state(stopped, 'T');
    // Another parent has not taken its SIGCHLD.
    let parent = cx.fork(|cx| {
        let child = sleeper(cx, "seen.below");
        stop_and_go(cx, child);
        let before = sys::pending();
        check_eq!(before, sys::sigset(&[libc::SIGCHLD]), "signals that wait");
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(sys::pending(), before, "signals that wait");
        let signal = sys::take_signal(before);
        check_eq!(signal.map(|signal| signal.pid), Some(child), "whom SIGCHLD is about");
        verify(child);
        cx.publish("seen.below", "");
        cx.reap(child);
        until_forever(|| cx.path("seen").exists());
    });
    cx.await_arrival(parent);
    check!(sys::take_signal(sys::sigset(&[libc::SIGCHLD])).is_some(), "no SIGCHLD");
    check_eq!(sys::pending(), 0, "signals that wait");

    cx.ready_and_wait();

    check_eq!(sys::pending(), 0, "signals that wait");
    for child in [plain, threaded] {
        verify(child);
    }
    for child in [waited_for, never, stopped] {
        check_eq!(sys::wait_siginfo(child, LOOK).ok(), Some((0, 0)), "continuation of {child}");
    }
    let stop = sys::wait_siginfo(stopped, libc::WSTOPPED | libc::WNOHANG).ok();
    check_eq!(stop, Some((libc::CLD_STOPPED, libc::SIGSTOP)), "stop of {stopped}");
    sys::kill(stopped, libc::SIGCONT);
    cx.publish("seen", "");
    for child in [plain, threaded, waited_for, never, stopped, parent] {
        cx.reap(child);
    }
}
