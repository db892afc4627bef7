//! Threads that wait in an epoll, and read a pipe, whose numbers were closed meanwhile and stand for the
//! same files again.
//!
//! Verified: both go on, and are told what comes.
//! CRIU: the wait returns `EINTR`.

use std::io::pipe;

use rustix::io::{read, write};

use super::watch::{Epoll, IN, at, event, plant, rouse, wait};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let (file, other) = (event(0), event(0));
    epoll.add(&file, IN, 1);
    let (reads, writes) = pipe().expect("pipe");
    plant(&epoll, 42);
    plant(&reads, 43);
    let (waiter, waiting) = cx.thread(|cx| {
        cx.arrive(sys::gettid());
        wait(42, 1)
    });
    let (reader, reading) = cx.thread(|cx| {
        cx.arrive(sys::gettid());
        let mut byte = [0];
        read(at(43), &mut byte).map(|len| (len, byte))
    });
    cx.await_blocked(waiting, libc::SYS_epoll_wait);
    cx.await_blocked(reading, libc::SYS_read);
    for (number, back) in [(42, at(42)), (43, at(43))] {
        plant(back, number + 10);
        plant(&other, number);
        sys::close(number);
        plant(at(number + 10), number);
    }

    cx.ready_and_wait();

    rouse(&file);
    check_eq!(write(&writes, b"x"), Ok(1), "writing");
    check_eq!(waiter.join().expect("no panic"), Ok(vec![(1, IN)]), "what the wait returns");
    check_eq!(reader.join().expect("no panic"), Ok((1, *b"x")), "what is read");
}
