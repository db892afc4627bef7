//! A diamond of epolls by stale keys only; the one in the middle of it has no number any more but in a
//! child.
//!
//! Verified: an event at the bottom comes out at the top by both ways.
//! CRIU: cannot dump: one of the epolls is in no table that has the others.

use super::watch::{Epoll, IN, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let file = event(0);
    let [bottom, left, right, top] = [Epoll::new(), Epoll::new(), Epoll::new(), Epoll::new()];
    bottom.add(&file, IN, 0);
    for (side, data) in [(&left, 1), (&right, 2)] {
        plant(&bottom, 50);
        side.add(at(50), IN, data);
        plant(side, 50);
        top.add(at(50), IN, data + 100);
    }
    sys::close(50);
    let (reader, writer) = std::io::pipe().expect("pipe");
    let child = cx.fork(|cx| {
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
        check_eq!(rustix::io::read(&reader, &mut [0]), Ok(1), "the parent's word");
        check_eq!(left.take(), [(1, IN)], "the left");
    });
    cx.await_arrival(child);
    drop(left);
    drop(bottom);

    cx.ready_and_wait();

    rouse(&file);
    let mut found = top.take();
    found.sort_unstable();
    check_eq!(found, [(101, IN), (102, IN)], "the top");
    check_eq!(right.take(), [(2, IN)], "the right");
    check_eq!(rustix::io::write(&writer, b"x"), Ok(1), "telling the child");
    cx.reap(child);
}
