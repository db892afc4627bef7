//! `flock` for a lock a child holds.
//!
//! Verified: it stays blocked until the child lets go, and then returns 0; blocked signals are as before.
//! CRIU: works.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::blocking::{outcome, until_woken};
use crate::context::until_forever;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).needs(&["locks"]).options(&["--file-locks"]);

fn run(cx: &mut Context) {
    let path = cx.path("lock");
    let open =
        || File::options().write(true).create(true).truncate(false).open(&path).expect("open");
    let file = open();
    let child = cx.fork(|cx| {
        let own = open();
        // SAFETY: plain numbers.
        check_eq!(unsafe { libc::flock(own.as_raw_fd(), libc::LOCK_EX) }, 0, "the child's flock");
        cx.arrive(sys::gettid());
        until_forever(|| cx.path("let go").exists());
    });
    cx.await_arrival(child);
    let wait = move || {
        // SAFETY: plain numbers.
        outcome(unsafe { libc::syscall(libc::SYS_flock, file.as_raw_fd(), libc::LOCK_EX) })
    };
    until_woken(cx, libc::SYS_flock, &Ok(0), wait, |_| cx.publish("let go", ""));
    cx.reap(child);
}
