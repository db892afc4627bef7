//! Waits in an outer epoll for what happens in inner ones, by live and stale keys.
//!
//! Verified: the wait goes on, and returns when the innermost file has an event.
//! CRIU: returns `EINTR`.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{EDGE, Epoll, IN, at, event, plant, rouse, wait};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let file = event(0);
    let [inner, outer] = [Epoll::new(), Epoll::new()];
    plant(&file, 50);
    inner.add(at(50), IN, 1);
    plant(&inner, 50);
    outer.add(at(50), IN | EDGE, 2);
    sys::close(50);
    let number = outer.as_fd().as_raw_fd();
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(sys::gettid());
        let found = wait(number, 8);
        cx.wait_go();
        found
    });
    cx.await_blocked(tid, libc::SYS_epoll_wait);

    cx.ready_and_wait();

    sys::nap(std::time::Duration::from_millis(50));
    rouse(&file);
    check_eq!(thread.join().expect("no panic"), Ok(vec![(2, IN)]), "what the wait returns");
    check_eq!(inner.take(), [(1, IN)], "the inner");
}
