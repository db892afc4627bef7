//! The signals that do nothing to who does not handle them (`SIGURG`, `SIGWINCH`, `SIGCHLD`) wait, blocked,
//! for the process and for a thread, and all others that can as well.
//!
//! Verified: number, code, sender and payload of every one.
//! CRIU: fails to dump it.

use crate::sys::SigInfo;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    // Without what stops and continues, of which one takes the other back.
    let others = [libc::SIGKILL, libc::SIGCONT];
    let numbers: Vec<i32> = (1..32).chain(34..65).collect();
    let numbers: Vec<i32> =
        numbers.into_iter().filter(|it| !stops.contains(it) && !others.contains(it)).collect();
    sys::block(sys::sigset(&numbers));
    let (pid, uid) = (std::process::id() as i32, rustix::process::getuid().as_raw());
    let payload = |number: i32, of_thread: bool| number as usize * 1000 + usize::from(of_thread);
    for &number in &numbers {
        let shared = sys::queue(pid, None, number, payload(number, false));
        check!(shared.is_ok(), "{number} to the process");
        let own = sys::queue(pid, Some(pid), number, payload(number, true));
        check!(own.is_ok(), "{number} to the thread");
    }

    cx.ready_and_wait();

    for of_thread in [true, false] {
        for &number in &numbers {
            let value = payload(number, of_thread);
            let expected = SigInfo { signo: number, code: libc::SI_QUEUE, pid, uid, value };
            let found = sys::take_signal(sys::sigset(&[number]));
            check_eq!(found, Some(expected), "signal {number}, of the thread: {of_thread}");
        }
    }
}
