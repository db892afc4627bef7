//! Eventfds: their count, flags, and one that two processes share.
//!
//! Verified: what reading returns, twice; that a write by the child reaches the parent.
//! CRIU: works.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::fcntl_getfl;
use rustix::io::{Errno, read, write};
use std::os::fd::OwnedFd;

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn take(fd: &OwnedFd) -> Result<u64, Errno> {
    let mut value = [0; 8];
    read(fd, &mut value).map(|_| u64::from_ne_bytes(value))
}

fn run(cx: &mut Context) {
    let new = |count, flags| {
        let fd = eventfd(0, flags).expect("eventfd");
        if count != 0 {
            write(&fd, &u64::to_ne_bytes(count)).expect("write");
        }
        fd
    };
    let count = new(0x2345_6789, EventfdFlags::NONBLOCK);
    let empty = new(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
    let blocking = new(7, EventfdFlags::empty());
    let shared = new(5, EventfdFlags::NONBLOCK);
    let flags = fcntl_getfl(&count);
    let child = cx.fork(|cx| {
        cx.wait_go();
        check_eq!(write(&shared, &u64::to_ne_bytes(10)), Ok(8), "the child's write");
    });

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(fcntl_getfl(&count), flags, "status flags");
    check_eq!(take(&count), Ok(0x2345_6789), "count");
    check_eq!(take(&count), Err(Errno::AGAIN), "count, once read");
    check_eq!(take(&empty), Err(Errno::AGAIN), "empty eventfd");
    check_eq!(take(&blocking), Ok(7), "blocking eventfd");
    check_eq!(take(&shared), Ok(15), "eventfd the child wrote to");
}
