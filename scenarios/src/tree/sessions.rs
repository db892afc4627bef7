//! Two sessions with process groups, all leaders alive.
//!
//! The root leads a session with the group of a child in it, which another child joins. A third
//! child leads a session, and its children are in its group and in one of their own.
//!
//! Verified: `getsid` and `getpgid` of every process; that `setsid` is refused to group leaders.
//! CRIU: works.

use rustix::io::Errno;
use rustix::process::{Pid, getpgid, getsid, setpgid, setsid};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn raw(pid: rustix::io::Result<Pid>) -> Result<i32, Errno> {
    pid.map(|p| p.as_raw_nonzero().get())
}

/// A child that enters `group` (0 for its own), is seen to be in (session, group) after the
/// checkpoint, and has children of its own.
fn member(cx: &Context, group: i32, session: i32, children: &[&dyn Fn(&Context) -> i32]) -> i32 {
    cx.fork(|cx| {
        let pid = sys::gettid();
        check_eq!(setpgid(None, Pid::from_raw(group)), Ok(()), "setpgid");
        live(cx, (session, if group == 0 { pid } else { group }), children);
    })
}

fn live(cx: &Context, expected: (i32, i32), children: &[&dyn Fn(&Context) -> i32]) {
    let pid = sys::gettid();
    let children: Vec<i32> = children.iter().map(|start| start(cx)).collect();
    children.iter().for_each(|&c| cx.await_arrival(c));
    cx.arrive(pid);
    cx.wait_go();
    check_eq!(
        (raw(getsid(None)), raw(getpgid(None))),
        (Ok(expected.0), Ok(expected.1)),
        "session and group"
    );
    if expected.1 == pid {
        check_eq!(raw(setsid()), Err(Errno::PERM), "setsid of a group leader");
    }
    children.iter().for_each(|&c| cx.reap(c));
}

fn run(cx: &mut Context) {
    let root = sys::gettid();
    let leader = member(cx, 0, root, &[]);
    cx.await_arrival(leader);
    let follower = member(cx, leader, root, &[]);
    let session = cx.fork(|cx| {
        let pid = raw(setsid()).expect("setsid of a process that leads no group");
        live(cx, (pid, pid), &[&|cx| member(cx, pid, pid, &[]), &|cx| member(cx, 0, pid, &[])]);
    });
    [follower, session].iter().for_each(|&c| cx.await_arrival(c));
    cx.ready_and_wait();
    check_eq!(
        (raw(getsid(None)), raw(getpgid(None))),
        (Ok(root), Ok(root)),
        "session and group of the root"
    );
    [leader, follower, session].iter().for_each(|&c| cx.reap(c));
}
