//! `F_SETLK`: a process with several ranges, and a child that has others on the same open file.
//!
//! Verified: `F_GETLK` tells every range with its holder, asked by another process; nothing else is
//! locked; each can be given up by its holder.
//! CRIU: works.

use std::fs::File;

use super::{Range, fcntl, open};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(&["--file-locks"]).faults();

const FREE: Range = (libc::F_UNLCK, 0, 0, 0);

/// What a process sees that holds no lock.
fn seen(file: &File, start: i64) -> Range {
    let asked = fcntl(file, libc::F_GETLK, (libc::F_WRLCK, start, 1, 0)).expect("F_GETLK");
    if asked.0 == libc::F_UNLCK { FREE } else { asked }
}

fn run(cx: &mut Context) {
    let path = cx.path("locked");
    let file = open(&path);
    let take = |range| fcntl(&file, libc::F_SETLK, range).map(drop);
    let own = sys::gettid();
    check_eq!(take((libc::F_WRLCK, 0, 10, 0)), Ok(()), "F_SETLK for writing");
    check_eq!(take((libc::F_RDLCK, 20, 10, 0)), Ok(()), "F_SETLK for reading");
    let child = cx.fork(|cx| {
        check_eq!(take((libc::F_RDLCK, 25, 10, 0)), Ok(()), "the child's F_SETLK");
        check_eq!(take((libc::F_WRLCK, 1000, 0, 0)), Ok(()), "the child's F_SETLK to the end");
        cx.arrive(sys::gettid());
        cx.wait_go();
        cx.await_arrival(1);
        check_eq!(seen(&file, 5), (libc::F_WRLCK, 0, 10, own), "the parent's lock");
        check_eq!(
            fcntl(&file, libc::F_SETLK, (libc::F_UNLCK, 1000, 0, 0)).map(drop),
            Ok(()),
            "unlock"
        );
        cx.arrive(2);
        cx.await_arrival(3);
    });
    cx.await_arrival(child);
    let watcher = cx.fork(|cx| {
        let file = open(&path);
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(seen(&file, 5), (libc::F_WRLCK, 0, 10, own), "the first range");
        check_eq!(seen(&file, 15), FREE, "between ranges");
        check_eq!(seen(&file, 22), (libc::F_RDLCK, 20, 10, own), "the second range");
        check_eq!(seen(&file, 33), (libc::F_RDLCK, 25, 10, child), "the child's range");
        check_eq!(seen(&file, 1 << 40), (libc::F_WRLCK, 1000, 0, child), "the child's to the end");
        cx.arrive(1);
        cx.await_arrival(2);
        check_eq!(seen(&file, 1 << 40), FREE, "what the child gave up");
        cx.arrive(3);
    });
    cx.await_arrival(watcher);
    cx.ready_and_wait();
    cx.reap(child);
    cx.reap(watcher);
}
