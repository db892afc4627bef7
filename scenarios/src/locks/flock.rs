//! `flock(2)`: exclusive, shared by fork; and shared by two open file descriptions.
//!
//! Verified: the exclusive one is held until its last holder has closed the file; the shared ones keep
//! each other from becoming exclusive.
//! CRIU: works.

use std::os::fd::AsRawFd;

use super::{flock, open};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(&["--file-locks"]).faults();

fn run(cx: &mut Context) {
    let (exclusive, shared) = (cx.path("exclusive"), cx.path("shared"));
    let held = open(&exclusive);
    check_eq!(flock(&held, libc::LOCK_EX), Ok(()), "LOCK_EX");
    let (one, two) = (open(&shared), open(&shared));
    check_eq!(flock(&one, libc::LOCK_SH), Ok(()), "LOCK_SH");
    check_eq!(flock(&two, libc::LOCK_SH), Ok(()), "LOCK_SH again");
    let child = cx.fork(|cx| {
        sys::close(two.as_raw_fd());
        cx.arrive(sys::gettid());
        cx.await_arrival(1);
    });
    cx.await_arrival(child);
    cx.ready_and_wait();
    let other = open(&exclusive);
    check_eq!(flock(&other, libc::LOCK_SH), Err(libc::EAGAIN), "what is locked");
    drop(held);
    check_eq!(flock(&other, libc::LOCK_SH), Err(libc::EAGAIN), "what the child has still locked");
    check_eq!(flock(&one, libc::LOCK_EX), Err(libc::EAGAIN), "what is shared");
    drop(two);
    check_eq!(flock(&one, libc::LOCK_EX), Ok(()), "what is shared no more");
    cx.arrive(1);
    cx.reap(child);
    check_eq!(flock(&other, libc::LOCK_EX), Ok(()), "what nobody has locked any more");
}
