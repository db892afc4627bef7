//! Both ends of one pipe in one epoll, with an item that is ready for reading and writing at once.
//!
//! Verified: which events come when it is filled, drained and closed.
//! CRIU: works.

use super::watch::{Epoll, HUP, IN, OUT};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("pipe");
    epoll.add(&reader, IN, 0);
    epoll.add(&writer, OUT, 1);
    check_eq!(rustix::io::write(&writer, b"some"), Ok(4), "writing");

    cx.ready_and_wait();

    check_eq!(epoll.take(), [(1, OUT), (0, IN)], "with some bytes");
    while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
    check_eq!(epoll.take(), [(0, IN)], "full");
    check_eq!(rustix::io::read(&reader, &mut [0; 4]), Ok(4), "the bytes from before");
    while rustix::io::read(&reader, &mut [0; 4096]).is_ok() {}
    check_eq!(epoll.take(), [(1, OUT)], "drained");
    drop(writer);
    check_eq!(epoll.take(), [(0, HUP)], "hung up");
}
