//! Children with lower pids than their parents, and pids far apart.
//!
//! Verified: every pid and parent; that the next child gets a pid nobody has.
//! CRIU: works.

use crate::sys::Clone3;
use crate::{Context, Scenario, Users, sys};

/// `clone3` with `set_tid` takes a capability.
pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).faults();

/// A chain: each is the parent of the next.
const CHAIN: [i32; 5] = [20_000, 700, 32_000, 699, 701];

fn run(cx: &mut Context) {
    let root = sys::gettid();
    let first = link(cx, root, &CHAIN);
    cx.await_arrival(first);
    cx.ready_and_wait();
    let another = cx.fork(|_| {});
    check!(
        !CHAIN.contains(&another) && another != root,
        "a new child got the pid {another}, which is taken"
    );
    cx.reap(another);
    cx.reap(first);
}

/// Makes the first of the chain, which makes the rest.
fn link(cx: &Context, parent: i32, chain: &[i32]) -> i32 {
    let ask = Clone3 { pid: chain[0], exit_signal: libc::SIGCHLD, ..Clone3::default() };
    let pid = sys::clone3(&ask).expect("clone3 with set_tid");
    if pid == 0 {
        cx.live_as_child(|cx| {
            let me = sys::gettid();
            let child = (chain.len() > 1).then(|| link(cx, me, &chain[1..]));
            child.iter().for_each(|&c| cx.await_arrival(c));
            cx.arrive(me);
            cx.wait_go();
            check_eq!((sys::gettid(), sys::parent()), (chain[0], parent), "pid and parent");
            child.iter().for_each(|&c| cx.reap(c));
        });
    }
    pid
}
