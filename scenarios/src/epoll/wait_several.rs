//! Three threads that wait in one epoll, by a call each of the three there are.
//!
//! Verified: each is woken once, by an event of its own, and none before.
//! CRIU: all return `EINTR`.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{EDGE, Epoll, IN, NOTHING, event, rouse, wait_by};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files = [event(0), event(0), event(0)];
    for (file, data) in files.iter().zip(0..) {
        epoll.add(file, IN | EDGE, data);
    }
    let number = epoll.as_fd().as_raw_fd();
    let calls = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2];
    let threads = calls.map(|call| {
        let (thread, tid) = cx.thread(move |cx| {
            cx.arrive(sys::gettid());
            let found = wait_by(call, number, 1, None);
            cx.wait_go();
            found
        });
        cx.await_blocked(tid, call);
        thread
    });

    cx.ready_and_wait();

    sys::nap(std::time::Duration::from_millis(50));
    files.iter().for_each(rouse);
    let mut found: Vec<_> =
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    found.sort_unstable();
    check_eq!(found, [0, 1, 2].map(|data| Ok(vec![(data, IN)])), "what the waits return");
    check_eq!(epoll.take(), NOTHING, "what nobody took");
}
