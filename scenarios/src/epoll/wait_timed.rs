//! Threads and children that all wait in one epoll, by a call each of the three there are, some for two
//! seconds and some for a minute.
//!
//! Verified: the former return nothing, when their time is up; then events wake the latter, one each.
//! CRIU: all return `EINTR`.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use super::watch::{Epoll, IN, NOTHING, ONCE, event, rouse, wait_for};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const CALLS: [libc::c_long; 3] =
    [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
const SOON: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_secs(60);
/// How late one may be on a loaded machine: less than it was under way at the checkpoint.
const SLACK: Duration = Duration::from_millis(700);

/// What `epoll_wait` returns.
type Told = Result<Vec<(u64, u32)>, i32>;

/// Waits in vain: what came, and how long that took.
fn in_vain(call: libc::c_long, epoll: i32) -> (Told, Duration) {
    let began = Instant::now();
    (wait_for(call, epoll, 1, None, Some(SOON)), began.elapsed())
}

fn check(call: libc::c_long, found: &(Told, Duration), held: Duration) {
    let (found, took) = found;
    check_eq!(*found, Ok(Vec::new()), "what call {call} returns");
    let latest = SOON + held + SLACK;
    check!((SOON..=latest).contains(took), "call {call} took {took:?}, of {SOON:?} to {latest:?}");
}

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files = [(); 6].map(|()| event(0));
    for (file, data) in files.iter().zip(0..) {
        epoll.add(file, IN | ONCE, data);
    }
    let number = epoll.as_fd().as_raw_fd();
    let woken = |found: &Told| {
        check!(found.as_ref().is_ok_and(|found| found.len() == 1), "who waits long: {found:?}");
    };
    let long = CALLS.map(|call| {
        let (thread, tid) = cx.thread(move |cx| {
            cx.arrive(sys::gettid());
            let found = wait_for(call, number, 1, None, Some(LATE));
            cx.wait_go();
            found
        });
        cx.await_blocked(tid, call);
        let child = cx.fork(|_| woken(&wait_for(call, number, 1, None, Some(LATE))));
        cx.await_blocked(child, call);
        (thread, child)
    });
    let short = CALLS.map(|call| {
        let (thread, tid) = cx.thread(move |cx| {
            cx.arrive(sys::gettid());
            let found = in_vain(call, number);
            cx.wait_go();
            found
        });
        cx.await_blocked(tid, call);
        let child = cx.fork(|cx| {
            let found = in_vain(call, number);
            check(call, &found, cx.wait_go());
        });
        cx.await_blocked(child, call);
        (thread, child)
    });
    sys::nap(Duration::from_secs(1));

    let held = cx.ready_and_wait();

    for ((thread, child), call) in short.into_iter().zip(CALLS) {
        check(call, &thread.join().expect("no panic"), held);
        cx.reap(child);
    }
    files.iter().for_each(rouse);
    for (thread, child) in long {
        woken(&thread.join().expect("no panic"));
        cx.reap(child);
    }
    check_eq!(epoll.take(), NOTHING, "what nobody took");
}
