//! Orphans of a session that is further down: one whose leader lives, and one whose leader has
//! ended. A subreaper above has adopted them, as an init does.
//!
//! Verified: parents, sessions and groups of all; who is a subreaper.
//! CRIU: works.

use super::session_leader_gone::{place, stay};
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .differs(&[("*/children", "those that were adopted may be at another place")]);

/// Makes a session, and in it an orphan, which the process `root` adopts.
fn lead(cx: &Context, root: i32, name: &str) {
    rustix::process::setsid().expect("setsid");
    let middle = cx.fork(|cx| {
        cx.fork(|cx| {
            until("the parent to end", || sys::parent() == root);
            cx.publish(name, &format!("{}", sys::own_pid()));
            let child = cx.fork(stay);
            cx.await_arrival(child);
            stay(cx);
            check_eq!(sys::is_subreaper(), false, "the orphan as a subreaper");
            cx.reap(child);
        });
    });
    cx.reap(middle);
}

fn run(cx: &mut Context) {
    sys::become_subreaper();
    let root = sys::own_pid();
    let names = ["with_leader", "without_leader"];
    let below = cx.fork(|cx| {
        let alive = cx.fork(|cx| {
            lead(cx, root, names[0]);
            stay(cx);
        });
        cx.await_arrival(alive);
        let gone = cx.fork(|cx| lead(cx, root, names[1]));
        cx.reap(gone);
        stay(cx);
        check_eq!(sys::is_subreaper(), false, "the process in between as a subreaper");
        cx.reap(alive);
    });
    cx.await_arrival(below);
    let orphans = names.map(|name| {
        let path = cx.path(name);
        until(name, || path.exists());
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let pid: i32 = text.parse().expect("a pid");
        cx.await_arrival(pid);
        pid
    });
    let before = place();
    cx.ready_and_wait();
    check_eq!(place(), before, "parent, session and group of the root");
    check_eq!(sys::is_subreaper(), true, "the root as a subreaper");
    for pid in orphans {
        cx.reap(pid);
    }
    cx.reap(below);
}
