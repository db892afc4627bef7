//! `F_SETLKW` for a range a child has locked.
//!
//! Verified: it stays blocked until the child lets go, and then returns 0; blocked signals are as before.
//! CRIU: the waiting process gets the lock, and its holder none.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::blocking::{outcome, until_woken};
use crate::context::until_forever;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).needs(&["locks"]).options(&["--file-locks"]);

fn set(file: &File, command: i32, kind: i32, start: i64) -> Result<i64, i32> {
    let mut lock =
        libc::flock { l_type: kind as i16, l_whence: 0, l_start: start, l_len: 10, l_pid: 0 };
    // SAFETY: the structure lives over the call.
    outcome(unsafe { libc::syscall(libc::SYS_fcntl, file.as_raw_fd(), command, &raw mut lock) })
}

fn run(cx: &mut Context) {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(cx.path("lock"))
        .expect("open");
    let child = cx.fork(|cx| {
        check_eq!(set(&file, libc::F_SETLK, libc::F_WRLCK, 100), Ok(0), "the child's lock");
        cx.arrive(sys::gettid());
        until_forever(|| cx.path("let go").exists());
    });
    cx.await_arrival(child);
    let wait = move || set(&file, libc::F_SETLKW, libc::F_WRLCK, 105);
    until_woken(cx, libc::SYS_fcntl, &Ok(0), wait, |_| cx.publish("let go", ""));
    cx.reap(child);
}
