//! A session, and a process group in it, whose leaders have ended: what daemons leave behind.
//!
//! Verified: sessions, groups and parents of everybody in it; nobody has the leaders' numbers.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// (parent, session, group) of this process.
pub(super) fn place() -> (i32, i32, i32) {
    // SAFETY: plain numbers.
    unsafe { (libc::getppid(), libc::getsid(0), libc::getpgrp()) }
}

/// Stays until it is time to end, and finds itself where it was.
pub(super) fn stay(cx: &Context) {
    cx.arrive(std::process::id() as i32);
    let before = place();
    crate::context::until_forever(|| cx.gone());
    check_eq!(place(), before, "parent, session and group");
}

fn run(cx: &mut Context) {
    sys::become_subreaper();
    let root = std::process::id() as i32;
    let leader = cx.fork(|cx| {
        rustix::process::setsid().expect("setsid");
        let group = cx.fork(|cx| {
            rustix::process::setpgid(None, None).expect("setpgid");
            // One in the group whose leader this is, and a child of it.
            cx.fork(|cx| {
                crate::context::until("the leaders to end", || sys::parent() == root);
                let child = cx.fork(stay);
                cx.await_arrival(child);
                cx.publish("in_group", &format!("{}", std::process::id()));
                stay(cx);
                cx.reap(child);
            });
        });
        cx.fork(|cx| {
            crate::context::until("the leader to end", || sys::parent() == root);
            cx.publish("in_session", &format!("{}", std::process::id()));
            stay(cx);
        });
        cx.reap(group);
    });
    cx.reap(leader);
    let members = ["in_group", "in_session"].map(|name| {
        let path = cx.path(name);
        crate::context::until(name, || path.exists());
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let pid: i32 = text.parse().expect("a pid");
        cx.await_arrival(pid);
        pid
    });

    cx.ready_and_wait();

    check!(!std::path::Path::new(&format!("/proc/{leader}")).exists(), "the leader is there");
    for member in members {
        cx.reap(member);
    }
}
