//! A filter that kills for every call but the few that a program makes.
//!
//! Verified: the checkpoint makes none that it sees; it kills afterwards.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Any stop in a sleep, be it by job control, makes the kernel go on with `restart_syscall(2)`.
const NEEDED: [i64; 5] = [
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_access,
    libc::SYS_write,
    libc::SYS_restart_syscall,
];

fn run(cx: &mut Context) {
    let parent = std::process::id();
    let child = cx.fork(|cx| {
        sys::no_new_privs();
        cx.arrive(std::process::id() as i32);
        let installed = sys::allow_only(&NEEDED, sys::KILL_PROCESS);
        check!(installed.is_ok(), "installing a filter");
        while !cx.gone() {
            sys::nap(std::time::Duration::from_millis(3));
        }
        check!(sys::bare_call(libc::SYS_getuid).is_ok(), "it is not killed (parent {parent})");
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    let status = sys::wait_status(child).expect("waiting for the child");
    check_eq!(status & 0x7f, libc::SIGSYS, "how the child ends");
}
