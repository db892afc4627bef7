//! Two epolls that watch one file with `EPOLLEXCLUSIVE`, each with a thread that waits, and a third that
//! watches it without.
//!
//! Verified: an event wakes the third, and one of the two.
//! CRIU: returns `EINTR` from the waits.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{EDGE, EXCLUSIVE, Epoll, IN, event, rouse, wait};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let file = event(0);
    let epolls = [EXCLUSIVE, EXCLUSIVE, 0].map(|mask| {
        let epoll = Epoll::new();
        epoll.add(&file, IN | EDGE | mask, 1);
        epoll
    });
    let numbers = epolls.each_ref().map(|epoll| epoll.as_fd().as_raw_fd());
    let (tell, hear) = std::sync::mpsc::channel();
    for number in numbers {
        let tell = tell.clone();
        let (_, tid) = cx.thread(move |cx| {
            cx.arrive(sys::gettid());
            let found = wait(number, 1);
            // The channel is there as long as the process.
            let _ = tell.send((number, found));
            cx.wait_go();
            // Whoever else ends up waiting again does so until the process ends.
            wait(number, 1)
        });
        cx.await_blocked(tid, libc::SYS_epoll_wait);
    }

    cx.ready_and_wait();

    let early = hear.recv_timeout(std::time::Duration::from_millis(50));
    check!(early.is_err(), "a wait returned early: {early:?}");
    rouse(&file);
    let patience = std::time::Duration::from_secs(10);
    let mut told: Vec<_> =
        (0..2).filter_map(|_| hear.recv_timeout(patience).ok()).map(|(number, _)| number).collect();
    told.sort_unstable();
    check!(told.contains(&numbers[2]), "the one without the flag was not told: {told:?}");
    let third = hear.recv_timeout(std::time::Duration::from_millis(50));
    check!(third.is_err(), "all three were told");
}
