//! Items whose files only a child has any more.
//!
//! Verified: what the child writes to them is reported, in its order; they end with the child.
//! CRIU: cannot dump: the files are in no table that has the epoll.

use super::watch::{EDGE, Epoll, IN, NOTHING, at, event, plant, rouse};
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    for (number, events) in [(50, IN), (51, IN | EDGE)] {
        plant(event(0), number);
        epoll.add(at(number), events, number as u64);
    }
    let (reader, writer) = std::io::pipe().expect("pipe");
    let child = cx.fork(|cx| {
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
        rouse(at(51));
        rouse(at(50));
        check_eq!(rustix::io::read(&reader, &mut [0]), Ok(1), "the parent's word");
    });
    cx.await_arrival(child);
    sys::close(50);
    sys::close(51);

    cx.ready_and_wait();

    until("two events", || epoll.take().len() == 2);
    check_eq!(epoll.take(), [(50, IN)], "what is still ready");
    check_eq!(rustix::io::write(&writer, b"x"), Ok(1), "letting the child end");
    cx.reap(child);
    check_eq!(epoll.take(), NOTHING, "after the child's end");
}
