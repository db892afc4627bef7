//! An epoll of one child, with an item on a file that only the other child has.
//!
//! Verified: what the other child writes is reported; nothing is before.
//! CRIU: cannot dump: the file is in no table that has the epoll.

use std::os::fd::AsRawFd;

use super::watch::{EDGE, Epoll, IN, NOTHING, event, rouse};
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let file = event(0);
    let (reader, writer) = std::io::pipe().expect("pipe");
    let watching = cx.fork(|cx| {
        let epoll = Epoll::new();
        epoll.add(&file, IN | EDGE, u64::MAX);
        sys::close(file.as_raw_fd());
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
        check_eq!(epoll.take(), NOTHING, "before the sibling's event");
        check_eq!(rustix::io::write(&writer, b"x"), Ok(1), "telling the sibling");
        until("the sibling's event", || epoll.take() == [(u64::MAX, IN)]);
    });
    let writing = cx.fork(|cx| {
        sys::close(writer.as_raw_fd());
        cx.arrive(std::process::id() as i32);
        cx.wait_go();
        check_eq!(rustix::io::read(&reader, &mut [0]), Ok(1), "the sibling's word");
        rouse(&file);
        // Lives, and so does the file, until the sibling has seen it.
        check_eq!(rustix::io::read(&reader, &mut [0]), Ok(0), "the sibling's end");
    });
    cx.await_arrival(watching);
    cx.await_arrival(writing);
    drop(file);
    drop(writer);

    cx.ready_and_wait();

    cx.reap(watching);
    cx.reap(writing);
}
