//! What is open three times, watched with `EPOLLEXCLUSIVE` by three epolls, each through another open file, with a
//! thread that waits in each.
//!
//! Verified: every event wakes one, who was added first as the first.
//! CRIU: returns `EINTR` from the waits.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::opens::KINDS;
use super::watch::{EXCLUSIVE, Epoll, IN, wait};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(sys::no_queues).dump_faults();

/// Epoll and open file of each item, first to last.
const ADDS: [(usize, usize); 3] = [(2, 0), (0, 1), (1, 2)];

fn run(cx: &mut Context) {
    let (tell, hear) = std::sync::mpsc::channel();
    let mut waiters = Vec::new();
    // Also in threads that are there before the signalfds.
    sys::block(sys::sigset(&[libc::SIGRTMIN()]));
    let mut watch = |opened: &super::opens::Opened| {
        let epolls = [(); 3].map(|()| Epoll::new());
        for (epoll, file) in ADDS {
            epolls[epoll].add(&*opened.files[file], IN | EXCLUSIVE, epoll as u64);
        }
        for (index, epoll) in epolls.iter().enumerate() {
            let (tell, number) = (tell.clone(), epoll.as_fd().as_raw_fd());
            let (_, tid) = cx.thread(move |cx| {
                cx.arrive(sys::gettid());
                let found = wait(number, 1);
                // The channel is there as long as the process.
                let _ = tell.send((index, found));
                cx.wait_go();
            });
            cx.await_blocked(tid, libc::SYS_epoll_wait);
            waiters.push(tid);
        }
        epolls
    };
    let mut opened = Vec::new();
    for kind in KINDS {
        let of_kind = kind(cx);
        let epolls = watch(&of_kind);
        opened.push((of_kind, epolls));
    }

    cx.ready_and_wait();

    for &tid in &waiters {
        cx.await_blocked(tid, libc::SYS_epoll_wait);
    }
    let early = hear.recv_timeout(Duration::from_millis(50));
    check!(early.is_err(), "a wait returned early: {early:?}");
    for (opened, _) in &opened {
        let mut told = Vec::new();
        for _ in ADDS {
            (opened.rouse)();
            let woken = hear.recv_timeout(Duration::from_secs(10));
            check!(woken.is_ok(), "{}: nobody was woken after {told:?}", opened.name);
            let another = hear.recv_timeout(Duration::from_millis(20));
            check!(another.is_err(), "{}: two were woken: {woken:?}, {another:?}", opened.name);
            told.push(woken);
            (opened.calm)();
            sys::nap(Duration::from_millis(20));
        }
        let expected = ADDS.map(|(epoll, _)| Ok((epoll, Ok(vec![(epoll as u64, IN)]))));
        check_eq!(told, expected, "{}: who was woken", opened.name);
    }
}
