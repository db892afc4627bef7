//! An epoll that parent and child share, with one number that stands for another file in each, and an item
//! on either.
//!
//! Verified: each process deletes its own item by that number, and both are told of both files.
//! CRIU: cannot dump.

use super::watch::{Epoll, IN, at, event, plant, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    plant(event(0), 50);
    epoll.add(at(50), IN, 1);
    let child = cx.fork(|cx| {
        plant(event(0), 50);
        epoll.add(at(50), IN, 2);
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
        rouse(at(50));
        check_eq!(epoll.take(), [(2, IN)], "what the child is told");
        check_eq!(epoll.delete(at(50)), Ok(()), "deleting the child's item");
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    cx.reap(child);
    rouse(at(50));
    check_eq!(epoll.take(), [(1, IN)], "what the parent is told");
    check_eq!(epoll.delete(at(50)), Ok(()), "deleting the parent's item");
}
