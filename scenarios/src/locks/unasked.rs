//! A locked file, and nobody has asked for locks to be saved.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the lock is held on.
//! CRIU: refuses.

use std::os::fd::AsRawFd;

use super::{flock, open};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("locked file");

fn run(cx: &mut Context) {
    let path = cx.path("locked");
    let file = open(&path);
    sys::dup2(file.as_raw_fd(), 42);
    check_eq!(flock(&file, libc::LOCK_EX), Ok(()), "LOCK_EX");
    drop(file);
    cx.ready_and_wait();
    check_eq!(flock(&open(&path), libc::LOCK_SH), Err(libc::EAGAIN), "what is locked");
}
