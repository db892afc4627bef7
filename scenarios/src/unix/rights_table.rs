//! Descriptors in flight between processes, of which one has already closed its own.
//!
//! Verified: the receiver gets the pipe that only the message holds, and hears from the sender by it.
//! CRIU: works.

use std::os::fd::AsFd;

use rustix::io::{read, write};
use rustix::pipe::pipe;

use super::talk::{STREAM, hear, pair, send};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let (here, there) = pair(STREAM);
    let mut ends = Some(there);
    let child = cx.fork(|cx| {
        let there = ends.take().expect("taken once in each process");
        let (reader, writer) = pipe().expect("pipe");
        send(&there, b"take this", &[reader.as_fd()]);
        drop(reader);
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(write(&writer, b"from the child"), Ok(14), "write");
    });
    drop(ends);
    cx.await_arrival(child);

    cx.ready_and_wait();

    let mut got = hear(&here, 100, b"take this", "the message").rights;
    check_eq!(got.len(), 1, "descriptors");
    let Some(reader) = got.pop() else { return };
    let mut bytes = [0; 20];
    check_eq!(read(&reader, &mut bytes), Ok(14), "what the child wrote");
    check_eq!(&bytes[..14], b"from the child", "what the child wrote");
    cx.reap(child);
}
