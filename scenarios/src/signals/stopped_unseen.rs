//! A stopped child whose parent has not waited for the stop yet.
//!
//! Verified: the parent's `waitid(WSTOPPED)` finds the stop, with its signal, once.
//! CRIU: works; a dump with `-R` leaves them the stop signal pending once more.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let children = [libc::SIGSTOP, libc::SIGTSTP].map(|signal| {
        let child = cx.fork(|cx| {
            // A group whose parent is outside it: SIGTSTP is ignored by orphaned groups.
            check!(rustix::process::setpgid(None, None).is_ok(), "setpgid");
            cx.arrive(sys::gettid());
            cx.wait_go();
        });
        cx.await_arrival(child);
        sys::kill(child, signal);
        cx.await_state(child, 'T');
        (child, signal)
    });

    cx.ready_and_wait();

    for (child, signal) in children {
        let stop = sys::wait_siginfo(child, libc::WSTOPPED | libc::WNOHANG).ok();
        check_eq!(stop, Some((libc::CLD_STOPPED, signal)), "stop of {child}");
        let again = sys::wait_siginfo(child, libc::WSTOPPED | libc::WNOHANG).ok();
        check_eq!(again, Some((0, 0)), "the same stop again");
        sys::kill(child, libc::SIGCONT);
        cx.reap(child);
    }
}
