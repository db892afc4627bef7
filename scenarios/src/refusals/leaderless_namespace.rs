//! A process in a user namespace of its own whose first thread has ended.
//!
//! Verified: the dump is refused, naming the namespace; the process still has it.
//! CRIU: refuses it, as the first thread has ended.

use crate::{Context, Scenario, Users, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).refused_task("ns/user");

fn run(cx: &mut Context) {
    let pid = cx.fork(|cx| {
        // SAFETY: the process has no other thread.
        check_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, 0, "unshare");
        let (pid, leader, own) = (sys::own_pid(), cx.clone(), user());
        cx.thread(move |cx| {
            cx.arrive(sys::gettid());
            leader.await_state(pid, 'Z');
            cx.arrive(pid);
            cx.wait_go();
            sys::exit(if user() == own { 6 } else { 7 })
        });
        sys::exit_thread(0);
    });
    cx.await_arrival(pid);

    cx.ready_and_wait();

    check_eq!(sys::wait_status(pid), Ok(6 << 8), "whether it has its namespace");
}

fn user() -> std::path::PathBuf {
    std::fs::read_link("/proc/thread-self/ns/user").expect("readlink")
}
