//! What is open three times: a FIFO, a pipe, a terminal, a message queue, the signals of a process, a process.
//! Items on all open files hang on one wait queue, which tells them newest first.
//!
//! Verified: an event after comes out in the reverse order of the adds, whichever file each is on; and what was
//! ready before, in the order in which it was told.
//! CRIU: gives two items one number, and the restore fails.

use std::os::fd::AsFd;
use std::rc::Rc;

use super::opens::{KINDS, Opened};
use super::watch::{EDGE, Epoll, IN, NOTHING, at, plant};
use crate::files::pidfd::pidfd_open;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(sys::no_queues).dump_faults();

/// Which of the files is added, first to last.
const ADDS: [usize; 6] = [0, 0, 1, 2, 1, 0];

/// The number that an item is added under.
fn number(kind: usize, item: usize) -> i32 {
    (100 + 10 * kind + item) as i32
}

fn watch(kind: usize, files: &[impl AsFd; 3]) -> Epoll {
    let epoll = Epoll::new();
    for (item, file) in ADDS.into_iter().enumerate() {
        let number = number(kind, item);
        plant(&files[file], number);
        epoll.add(at(number), IN | EDGE, item as u64);
    }
    epoll
}

/// All, the last that was added first.
fn told() -> Vec<u64> {
    (0..ADDS.len() as u64).rev().collect()
}

fn taken(epoll: &Epoll) -> Vec<u64> {
    epoll.take().into_iter().map(|(data, _)| data).collect()
}

fn run(cx: &mut Context) {
    // Each twice: one that nobody has anything to tell of, and one that is ready.
    let opened: Vec<Opened> = KINDS.iter().flat_map(|kind| [kind(cx), kind(cx)]).collect();
    let watched = opened.iter().enumerate();
    let epolls: Vec<_> = watched
        .map(|(kind, opened)| watch(kind, &opened.files.each_ref().map(Rc::as_ref)))
        .collect();
    let child = cx.fork(|cx| {
        cx.wait_go();
        loop {
            sys::nap(std::time::Duration::from_secs(1));
        }
    });
    let of_child = watch(opened.len(), &[(); 3].map(|()| pidfd_open(child, 0)));
    for (opened, epoll) in opened.iter().zip(&epolls).skip(1).step_by(2) {
        (opened.rouse)();
        check_eq!(epoll.take_some(1).len(), 1, "{}: the first", opened.name);
    }

    cx.ready_and_wait();

    // Those first that were ready, as a signal wakes whatever awaits any.
    for (opened, epoll) in opened.iter().zip(&epolls).skip(1).step_by(2) {
        check_eq!(taken(epoll), told()[1..], "{}: what was ready", opened.name);
        (opened.calm)();
        (opened.rouse)();
        check_eq!(taken(epoll), told(), "{}: when it is ready again", opened.name);
        (opened.calm)();
    }
    for (opened, epoll) in opened.iter().zip(&epolls).step_by(2) {
        check_eq!(epoll.take(), NOTHING, "{}: before", opened.name);
        (opened.rouse)();
        check_eq!(taken(epoll), told(), "{}: after", opened.name);
        (opened.calm)();
    }
    check_eq!(of_child.take(), NOTHING, "a process that lives");
    sys::kill(child, libc::SIGKILL);
    cx.await_state(child, 'Z');
    check_eq!(taken(&of_child), told(), "a process that has ended");
    check_eq!(sys::wait_status(child), Ok(libc::SIGKILL), "its end");
}
