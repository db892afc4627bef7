//! Children that have ended and have not been waited for: by exit, by signals, with and without a
//! core dump asked for.
//!
//! Verified: `waitid` gives code and status of each; no other child is there.
//! CRIU: works.

use rustix::process::{Pid, Signal, kill_process};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn ended_by(signal: Signal) -> impl Fn() {
    move || {
        let pid = Pid::from_raw(sys::gettid()).expect("a pid");
        let _ = kill_process(pid, signal);
    }
}

fn run(cx: &mut Context) {
    // No core files, which would also cost time.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    check!(rustix::process::setrlimit(rustix::process::Resource::Core, none).is_ok(), "setrlimit");
    type End = Box<dyn Fn()>;
    let ends: [(End, (i32, i32)); 6] = [
        (Box::new(|| sys::exit(0)), (libc::CLD_EXITED, 0)),
        (Box::new(|| sys::exit(7)), (libc::CLD_EXITED, 7)),
        (Box::new(|| sys::exit(100)), (libc::CLD_EXITED, 100)),
        (Box::new(ended_by(Signal::KILL)), (libc::CLD_KILLED, libc::SIGKILL)),
        (Box::new(ended_by(Signal::TERM)), (libc::CLD_KILLED, libc::SIGTERM)),
        (Box::new(ended_by(Signal::USR1)), (libc::CLD_KILLED, libc::SIGUSR1)),
    ];
    let zombies: Vec<i32> = ends.iter().map(|(end, _)| cx.fork(|_| end())).collect();
    // One of a child, too.
    let parent = cx.fork(|cx| {
        let zombie = cx.fork(|_| sys::exit(33));
        cx.await_state(zombie, 'Z');
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(sys::wait_status(zombie), Ok(33 << 8), "status of a child's zombie");
    });
    zombies.iter().for_each(|&z| cx.await_state(z, 'Z'));
    cx.await_arrival(parent);

    cx.ready_and_wait();

    for (zombie, (_, expected)) in zombies.into_iter().zip(&ends) {
        check_eq!(
            sys::wait_siginfo(zombie, libc::WEXITED | libc::WNOHANG).ok(),
            Some(*expected),
            "end of {zombie}"
        );
    }
    cx.reap(parent);
    check_eq!(sys::wait_status(-1), Err(libc::ECHILD), "waiting for more");
}
