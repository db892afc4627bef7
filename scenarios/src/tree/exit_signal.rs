//! Children whose end sends another signal than SIGCHLD, or none.
//!
//! Verified: which signal is pending after each end, and that only `__WALL` waits find them.
//! CRIU: restores SIGCHLD for all.

use crate::sys::Clone3;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const SIGNALS: [i32; 3] = [libc::SIGUSR1, 0, 40];

fn run(cx: &mut Context) {
    sys::block(!0);
    let children = SIGNALS.map(|exit_signal| {
        let pid = sys::clone3(&Clone3 { exit_signal, ..Clone3::default() }).expect("clone3");
        if pid == 0 {
            cx.live_as_child(|cx| {
                cx.arrive(sys::gettid());
                cx.wait_go();
            });
        }
        cx.await_arrival(pid);
        pid
    });
    cx.ready_and_wait();
    for (child, signal) in children.into_iter().zip(SIGNALS) {
        let plain = sys::wait_siginfo(child, libc::WEXITED).map_err(|e| e.raw_os_error());
        check_eq!(
            plain,
            Err(Some(libc::ECHILD)),
            "waiting without __WALL for the child with signal {signal}"
        );
        cx.reap(child);
    }
    let expected = sys::sigset(&[libc::SIGUSR1, 40]);
    check_eq!(sys::pending(), expected, "pending signals");
}
