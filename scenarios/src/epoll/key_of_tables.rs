//! Two tables in one process, where one number stands for two files, and both are watched under it.
//!
//! Verified: each file is reported with its own data, and each table deletes its own item by the number.
//! CRIU: cannot dump.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{Epoll, IN, NOTHING, at, at_epoll, event, plant, rouse, unshare_files};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(sys::no_thread_pidfds).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    plant(event(0), 50);
    epoll.add(at(50), IN, 1);
    let number = epoll.as_fd().as_raw_fd();
    let (thread, _) = cx.thread(move |cx| {
        unshare_files();
        plant(event(0), 50);
        at_epoll(number).add(at(50), IN, 2);
        cx.arrive(sys::gettid());
        cx.wait_go();
        rouse(at(50));
        check_eq!(at_epoll(number).take(), [(2, IN)], "what the thread's file reports");
        check_eq!(at_epoll(number).delete(at(50)), Ok(()), "deleting the thread's item");
    });

    cx.ready_and_wait();

    check!(thread.join().is_ok(), "the thread panicked");
    check_eq!(epoll.take(), NOTHING, "after the thread's item has gone");
    rouse(at(50));
    check_eq!(epoll.take(), [(1, IN)], "what the process's file reports");
    check_eq!(epoll.delete(at(50)), Ok(()), "deleting the process's item");
}
