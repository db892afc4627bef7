//! Signals that wait, of the process and of its first thread, more than can be queued by now.
//!
//! Verified: all come, each with its payload; then none can be queued.
//! CRIU: fails to restore it.

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::sys::SigInfo;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// One of those that come without their siginfo rather than not at all, and a real-time signal.
const NUMBERS: [i32; 2] = [libc::SIGUSR1, 40];

fn run(cx: &mut Context) {
    sys::block(sys::sigset(&NUMBERS));
    let (pid, uid) = (std::process::id() as i32, rustix::process::getuid().as_raw());
    for number in NUMBERS {
        for (thread, value) in [(None, 7), (Some(pid), 8)] {
            check!(sys::queue(pid, thread, number, value).is_ok(), "signal {number}");
        }
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    check!(setrlimit(Resource::Sigpending, none).is_ok(), "setrlimit");

    cx.ready_and_wait();

    // A thread's own come first (`signal(7)`).
    for number in NUMBERS {
        for value in [8, 7] {
            let expected = SigInfo { signo: number, code: libc::SI_QUEUE, pid, uid, value };
            let taken = sys::take_signal(sys::sigset(&[number]));
            check_eq!(taken, Some(expected), "{value} of {number}");
        }
    }
    check!(sys::queue(pid, None, 40, 9).is_err(), "one more");
}
