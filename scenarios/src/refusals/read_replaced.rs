//! A thread that reads a pipe whose number another thread has given to another pipe.
//!
//! Verified: the dump is refused, naming thread and descriptor; what is read is what was written to the
//! first pipe.
//! CRIU: what is read is of the other.

use std::io::pipe;

use rustix::io::{read, write};

use crate::epoll::watch::{at, plant};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused("a call that waits with a file whose number is closed, or another file's");

fn run(cx: &mut Context) {
    let (first, second) = (pipe().expect("pipe"), pipe().expect("pipe"));
    plant(&first.0, 42);
    let (thread, tid) = cx.thread(|cx| {
        cx.arrive(sys::gettid());
        let mut byte = [0];
        read(at(42), &mut byte).map(|len| (len, byte))
    });
    cx.await_blocked(tid, libc::SYS_read);
    plant(&second.0, 42);
    cx.publish("naming", &format!("{tid}\n"));

    cx.ready_and_wait();

    check_eq!(write(&second.1, b"2"), Ok(1), "writing to the other");
    check_eq!(write(&first.1, b"1"), Ok(1), "writing to the first");
    check_eq!(thread.join().expect("no panic"), Ok((1, *b"1")), "what is read");
}
