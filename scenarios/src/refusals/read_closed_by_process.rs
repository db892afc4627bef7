//! A process of one thread that reads a pipe whose number another process has closed, with which it has
//! one fd table. Only the read holds the file, which an epoll watches.
//!
//! Verified: the dump is refused, naming thread and descriptor; what is read is what was written.
//! CRIU: the read ends with `EBADF`.

use std::io::pipe;

use rustix::io::{read, write};

use crate::epoll::watch::{Epoll, IN, at, plant};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused("a call that waits with a file whose number is closed, or another file's");

fn run(cx: &mut Context) {
    let (reader, writer) = pipe().expect("pipe");
    let epoll = Epoll::new();
    plant(&reader, 42);
    drop(reader);
    epoll.add(at(42), IN, 7);
    let child = cx.fork_sharing(libc::CLONE_FILES, |cx| {
        cx.arrive(sys::gettid());
        let mut byte = [0];
        check_eq!(read(at(42), &mut byte), Ok(1), "what is read");
        check_eq!(byte, *b"1", "what it is");
    });
    cx.await_arrival(child);
    cx.await_blocked(child, libc::SYS_read);
    sys::close(42);
    cx.publish("naming", &format!("pid {child}:\n"));

    cx.ready_and_wait();

    check_eq!(write(&writer, b"1"), Ok(1), "writing");
    cx.reap(child);
}
