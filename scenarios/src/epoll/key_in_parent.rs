//! An epoll of a child, with items on files that only its parent has any more.
//!
//! Verified: what the parent writes to them is reported.
//! CRIU: cannot dump: the files are in no table that has the epoll.

use std::os::fd::AsRawFd;

use super::watch::{Epoll, IN, ONCE, event, rouse};
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let (file, second) = (event(0), event(0));
    let child = cx.fork(|cx| {
        let epoll = Epoll::new();
        epoll.add(&file, IN, 1);
        epoll.add(&second, IN | ONCE, 2);
        sys::close(file.as_raw_fd());
        sys::close(second.as_raw_fd());
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
        let mut found = Vec::new();
        until("the parent's events", || {
            found.extend(epoll.take());
            found.contains(&(1, IN)) && found.contains(&(2, IN))
        });
        check_eq!(epoll.take(), [(1, IN)], "the level-triggered one again");
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    rouse(&file);
    rouse(&second);
    cx.reap(child);
}
