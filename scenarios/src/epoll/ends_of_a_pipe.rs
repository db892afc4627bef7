//! Both ends of several pipes in one epoll: all items are ready at once, those for writing before those for
//! reading.
//!
//! Verified: which events come, and in which order, when they are filled, drained and closed.
//! CRIU: adds the items in the order in which the kernel happens to list them.

use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};

use super::watch::{Epoll, HUP, IN, OUT};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

const PIPES: u64 = 4;

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let pipes: Vec<_> = (0..PIPES).map(|_| pipe_with(PipeFlags::NONBLOCK).expect("pipe")).collect();
    for ((reader, writer), pipe) in pipes.iter().zip(0..) {
        epoll.add(reader, IN, pipe);
        epoll.add(writer, OUT, PIPES + pipe);
    }
    for (_, writer) in &pipes {
        check_eq!(write(writer, b"some"), Ok(4), "writing");
    }
    let of_all = |first: u64, event: u32| (first..first + PIPES).map(move |data| (data, event));

    cx.ready_and_wait();

    let both: Vec<_> = of_all(PIPES, OUT).chain(of_all(0, IN)).collect();
    check_eq!(epoll.take(), both, "with some bytes");
    for (_, writer) in &pipes {
        while write(writer, &[0; 4096]).is_ok() {}
    }
    check_eq!(epoll.take(), of_all(0, IN).collect::<Vec<_>>(), "full");
    for (reader, _) in &pipes {
        check_eq!(read(reader, &mut [0; 4]), Ok(4), "the bytes from before");
        while read(reader, &mut [0; 4096]).is_ok() {}
    }
    check_eq!(epoll.take(), of_all(PIPES, OUT).collect::<Vec<_>>(), "drained");
    let _readers: Vec<_> = pipes.into_iter().map(|(reader, _)| reader).collect();
    check_eq!(epoll.take(), of_all(0, HUP).collect::<Vec<_>>(), "hung up");
}
