//! A parent and two children that wait in one epoll under different numbers.
//!
//! Verified: three events wake each of them once.
//! CRIU: all return `EINTR`.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{Epoll, IN, NOTHING, ONCE, at, event, plant, rouse, wait};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files = [event(0), event(0), event(0)];
    for (file, data) in files.iter().zip(0..) {
        epoll.add(file, IN | ONCE, data);
    }
    let number = epoll.as_fd().as_raw_fd();
    let children = [60, 61].map(|other| {
        let child = cx.fork(|cx| {
            plant(at(number), other);
            sys::close(number);
            let found = wait(other, 1);
            check!(
                found.as_ref().is_ok_and(|found| found.len() == 1),
                "the child's wait: {found:?}"
            );
            cx.wait_go();
        });
        cx.await_blocked(child, libc::SYS_epoll_wait);
        child
    });
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(sys::gettid());
        let found = wait(number, 1);
        cx.wait_go();
        found
    });
    cx.await_blocked(tid, libc::SYS_epoll_wait);

    cx.ready_and_wait();

    files.iter().for_each(rouse);
    let found = thread.join().expect("no panic");
    check!(found.as_ref().is_ok_and(|found| found.len() == 1), "the parent's wait: {found:?}");
    children.into_iter().for_each(|child| cx.reap(child));
    check_eq!(epoll.take(), NOTHING, "what nobody took");
}
