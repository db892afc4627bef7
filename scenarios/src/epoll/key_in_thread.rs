//! Items on files that only a thread with an fd table of its own has any more, added there and in the
//! process.
//!
//! Verified: what the thread writes to them is reported.
//! CRIU: cannot dump.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{Epoll, IN, NOTHING, at, at_epoll, event, plant, rouse, unshare_files};
use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(sys::no_thread_pidfds).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    plant(event(0), 50);
    epoll.add(at(50), IN, 50);
    let number = epoll.as_fd().as_raw_fd();
    let (thread, _) = cx.thread(move |cx| {
        unshare_files();
        plant(event(0), 51);
        // The epoll is under the same number here.
        at_epoll(number).add(at(51), IN, 51);
        cx.arrive(sys::gettid());
        cx.wait_go();
        rouse(at(50));
        rouse(at(51));
        check_eq!(at_epoll(number).delete(at(51)), Ok(()), "deleting the thread's item");
    });
    sys::close(50);

    cx.ready_and_wait();

    check!(thread.join().is_ok(), "the thread panicked");
    // Its table, and the files in it, are gone with it.
    until("the end of the thread's files", || epoll.take() == NOTHING);
}
