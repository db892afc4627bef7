//! Items of an epoll whose file is open nowhere but in a process that is not in the tree: one that has
//! called `setsid`, and whose parent has ended.
//!
//! Verified: the dump is refused, naming the epoll, the item, and the process and descriptor that have
//! the file; the item still works.
//! CRIU: looks for the file in the tree, and finds none.

use std::os::fd::{AsFd, AsRawFd};

use crate::context::until;
use crate::epoll::watch::{EDGE, Epoll, IN, NOTHING, at, at_epoll, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused("item 50 watches a file that no process of the tree has open: process ");

fn run(cx: &mut Context) {
    plant(Epoll::new(), 42);
    let epoll = at_epoll(42);
    let file = event(0);
    plant(&file, 50);
    epoll.add(at(50), IN | EDGE, 1);
    let number = file.as_fd().as_raw_fd();
    cx.stranger(|cx| {
        [42, 50].into_iter().for_each(sys::close);
        let own = sys::gettid();
        cx.publish("stranger", &own.to_string());
        cx.publish("naming", &format!("process {own} (\nhas it, as descriptor {number}"));
        cx.wait_go();
        rouse(at(number));
        cx.publish("roused", "");
        until("the end of the root", || cx.path("done").exists());
    });
    until("the stranger", || cx.path("naming").exists());
    drop(file);
    sys::close(50);

    cx.ready_and_wait();

    until("the stranger's event", || cx.path("roused").exists());
    check_eq!(epoll.take(), [(1, IN)], "an event of the stranger's");
    check_eq!(epoll.take(), NOTHING, "it again");
    cx.publish("done", "");
}
