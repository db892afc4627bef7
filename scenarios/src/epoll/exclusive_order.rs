//! Two epolls, one of which watches the other, with items on files of several kinds that all have `EPOLLEXCLUSIVE`
//! and became ready in an order of their own; among them items without it, level-triggered, of edges and one-shots.
//!
//! Verified: the order in which each epoll reports them, and that it goes on where it stopped.
//! CRIU: another order.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::io::write;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::watch::{EDGE, EXCLUSIVE, Epoll, IN, NOTHING, ONCE, OUT, event, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// The order in which the files become ready, by the data of their items.
const READY: [u64; 6] = [4, 1, 5, 0, 3, 2];

/// A file that nothing is to be read from, and what is to be done for that.
type Kind = (OwnedFd, Box<dyn Fn()>);

fn timer() -> Kind {
    let timer =
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).expect("timerfd_create");
    let same = timer.try_clone().expect("dup");
    let ready = move || {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at_once = Itimerspec { it_interval: zero, it_value: Timespec { tv_nsec: 1, ..zero } };
        timerfd_settime(&same, TimerfdTimerFlags::empty(), &at_once).expect("timerfd_settime");
    };
    (timer, Box::new(ready))
}

fn pipe() -> Kind {
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).expect("pipe2");
    (reader, Box::new(move || check_eq!(write(&writer, b"x"), Ok(1), "writing to a pipe")))
}

fn socket() -> Kind {
    let (one, other) = UnixStream::pair().expect("socketpair");
    (one.into(), Box::new(move || check_eq!(write(&other, b"x"), Ok(1), "writing to a socket")))
}

fn eventfd() -> Kind {
    let file = event(0);
    let same = file.try_clone().expect("dup");
    (file, Box::new(move || rouse(&same)))
}

fn run(cx: &mut Context) {
    let (inner, outer) = (Epoll::new(), Epoll::new());
    outer.add(&inner, IN, 99);
    let files = [timer(), pipe(), socket(), eventfd(), timer(), socket()];
    for epoll in [&outer, &inner] {
        for ((file, _), data) in files.iter().zip(0..) {
            epoll.add(file, IN | EXCLUSIVE, data);
        }
    }
    // A socket that can be written to, and is ready from the first.
    let (socket, _other) = UnixStream::pair().expect("socketpair");
    inner.add(&socket, OUT | EXCLUSIVE, 50);
    let others = [0, EDGE, ONCE].map(|mask| {
        let file = event(0);
        for epoll in [&outer, &inner] {
            epoll.add(&file, IN | mask, 60 + u64::from(mask));
        }
        (file, 60 + u64::from(mask))
    });
    let mut expected = Vec::new();
    for (place, &data) in READY.iter().enumerate() {
        (files[data as usize].1)();
        sys::nap(std::time::Duration::from_millis(5));
        expected.push((data, IN));
        if let Some((file, data)) = others.get(place / 2).filter(|_| place % 2 == 1) {
            rouse(file);
            expected.push((*data, IN));
        }
    }
    // Those in front go to the end.
    let turned = [(50, OUT), (4, IN), (1, IN)];
    check_eq!(inner.take_some(3), turned, "before");

    cx.ready_and_wait();

    let whole: Vec<_> = expected[2..].iter().chain(&turned).copied().collect();
    check_eq!(inner.take_some(3), whole[..3], "the first");
    let rest: Vec<_> = whole[3..].iter().chain(&whole[..3]).copied().collect();
    let is_level = |item: &&(u64, u32)| item.0 <= 60 || item.0 == 99;
    check_eq!(inner.take(), rest, "all");
    let left: Vec<_> = rest.iter().filter(is_level).copied().collect();
    check_eq!(inner.take(), left, "what is level-triggered");
    let mut all = outer.take();
    all.retain(|&(data, _)| data != 99);
    check_eq!(all, expected, "all of the other");
    inner.delete(&socket).expect("EPOLL_CTL_DEL");
    for (file, _) in &files {
        check_eq!(inner.delete(file), Ok(()), "deleting");
    }
    check_eq!(inner.take(), [(60, IN)], "what is left");
    drop(others);
    check_eq!(inner.take(), NOTHING, "after that");
}
