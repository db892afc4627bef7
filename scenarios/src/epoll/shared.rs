//! An epoll that a parent and two children have under different numbers.
//!
//! Verified: what one adds the others are told, and each can change what is there.
//! CRIU: works.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{Epoll, IN, OUT, at, at_epoll, event, plant, rouse};
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let (file, late) = (event(0), event(0));
    epoll.add(&file, IN, 1);
    let number = epoll.as_fd().as_raw_fd();
    let first = cx.fork(|cx| {
        plant(at(number), 60);
        sys::close(number);
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
        at_epoll(60).add(&late, IN, 2);
        rouse(&late);
    });
    let second = cx.fork(|cx| {
        plant(at(number), 61);
        sys::close(number);
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
        until("the sibling's item", || at_epoll(61).take() == [(2, IN)]);
        check_eq!(at_epoll(61).modify(&file, IN | OUT, 10), Ok(()), "modifying");
    });
    cx.await_arrival(first);
    cx.await_arrival(second);

    cx.ready_and_wait();

    cx.reap(first);
    cx.reap(second);
    let mut found = epoll.take();
    found.sort_unstable();
    check_eq!(found, [(2, IN), (10, OUT)], "what the parent is told");
}
