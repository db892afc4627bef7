//! Threads and a child that wait in one epoll, and began to in an order that is not that of their tids.
//!
//! Verified: who began last is woken first. Not by dumps that are killed, which may leave another order.
//! CRIU: all return `EINTR`.

use std::io::{PipeReader, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, write};

use super::watch::{EDGE, Epoll, IN, event, rouse, wait_by};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// The order in which they begin: by index, so the child is the fifth.
const ORDER: [usize; 7] = [3, 0, 5, 1, 6, 4, 2];
/// The child.
const CHILD: usize = 6;

fn run(cx: &mut Context) {
    let turns = Turns::begin(cx, &ORDER, Numbers::One);

    cx.ready_and_wait();

    turns.end(cx, &ORDER);
}

/// Under which numbers they wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// All under the same.
    One,
    /// Each under another.
    Each,
}

/// Those that wait, each by one of the calls.
pub(super) struct Turns {
    file: OwnedFd,
    told: PipeReader,
    threads: Vec<(JoinHandle<()>, i32)>,
    child: Option<i32>,
    /// What they wait in.
    _epolls: Vec<OwnedFd>,
}

fn call(waiter: usize) -> libc::c_long {
    [libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2][waiter % 3]
}

impl Turns {
    /// Has them begin in this order.
    pub(super) fn begin(cx: &Context, order: &[usize], numbers: Numbers) -> Self {
        let epoll = Epoll::new();
        let file = event(0);
        epoll.add(&file, IN | EDGE, 9);
        let count = if numbers == Numbers::Each { order.len() } else { 1 };
        let dup = |_| epoll.as_fd().try_clone_to_owned().expect("dup");
        let epolls: Vec<_> = (0..count).map(dup).collect();
        let (told, tells) = pipe().expect("pipe");
        let began: Vec<_> = order.iter().map(|_| pipe().expect("pipe")).collect();
        let body = |waiter: usize| {
            let number = epolls[waiter % count].as_raw_fd();
            let (begins, tells) = (&began[waiter].0, &tells);
            let (begins, tells) =
                (begins.try_clone().expect("dup"), tells.try_clone().expect("dup"));
            move || {
                check_eq!(read(&begins, &mut [0; 1]), Ok(1), "when to begin");
                check_eq!(wait_by(call(waiter), number, 1, None), Ok(vec![(9, IN)]), "what came");
                check_eq!(write(&tells, &[waiter as u8]), Ok(1), "who it is");
            }
        };
        let threads: Vec<_> = (0..order.len().min(CHILD))
            .map(|waiter| {
                let body = body(waiter);
                cx.thread(move |cx| {
                    cx.arrive(sys::gettid());
                    body();
                    cx.wait_go();
                })
            })
            .collect();
        let child = (order.len() > CHILD).then(|| cx.fork(|_| body(CHILD)()));
        let turns = Self { file, told, threads, child, _epolls: epolls };
        for &waiter in order {
            check_eq!(write(&began[waiter].1, b"x"), Ok(1), "one begins");
            turns.await_wait(cx, waiter);
        }
        turns
    }

    fn await_wait(&self, cx: &Context, waiter: usize) {
        let thread = self.threads.get(waiter).map(|(_, tid)| *tid);
        let tid = thread.or(self.child).expect("a thread, or the child");
        cx.await_blocked(tid, call(waiter));
    }

    /// They are woken one by one.
    pub(super) fn end(self, cx: &Context, order: &[usize]) {
        // They may not be there yet.
        order.iter().for_each(|&waiter| self.await_wait(cx, waiter));
        let Self { file, told, threads, child, _epolls } = self;
        let mut woken = Vec::new();
        for _ in order {
            rouse(&file);
            let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
            check_eq!(
                poll(&mut [PollFd::new(&told, PollFlags::IN)], Some(&minute)),
                Ok(1),
                "one is woken, after {woken:?}"
            );
            let mut who = [0];
            check_eq!(read(&told, &mut who), Ok(1), "who");
            woken.push(usize::from(who[0]));
        }
        woken.reverse();
        check_eq!(woken, order, "the order, from who was woken last");
        threads.into_iter().for_each(|(thread, _)| thread.join().expect("no panic"));
        child.into_iter().for_each(|child| cx.reap(child));
    }
}
