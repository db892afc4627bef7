//! The login uid, which the audit trail names a program's user by.
//!
//! Verified: of the root, of a child that has another one, and of a thread that was never given one.
//! CRIU: keeps that of processes.

use std::fs;

use crate::{Context, Scenario, Users, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).missing(|| {
        let there = fs::exists("/proc/self/loginuid").unwrap_or(false);
        (!there).then(|| "the kernel has no audit trail".into())
    });

fn get() -> u32 {
    let text = fs::read_to_string("/proc/thread-self/loginuid").expect("loginuid");
    text.trim().parse().expect("a number")
}

fn set(uid: u32) {
    fs::write("/proc/thread-self/loginuid", uid.to_string()).expect("loginuid");
}

fn run(cx: &mut Context) {
    let before = get();
    let (thread, _) = cx.thread(move |cx| {
        cx.arrive(sys::gettid());
        crate::context::until_forever(|| cx.gone());
        check_eq!(get(), before, "of the thread");
    });
    set(12_345);
    let child = cx.fork(|cx| {
        set(54_321);
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(get(), 54_321, "of the child");
    });
    cx.await_arrival(child);
    cx.ready_and_wait();
    check_eq!(get(), 12_345, "of the root");
    cx.reap(child);
    check!(thread.join().is_ok(), "the thread panicked");
}
