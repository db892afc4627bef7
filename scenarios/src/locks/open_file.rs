//! `F_OFD_SETLK`: two open file descriptions of one process with locks of their own, one shared by fork.
//!
//! Verified: each conflicts with the other, by range; the child has what it shares with its parent.
//! CRIU: works.

use std::fs::File;

use super::{fcntl, open};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).options(&["--file-locks"]);

fn take(file: &File, kind: i32, start: i64, len: i64) -> Result<(), i32> {
    fcntl(file, libc::F_OFD_SETLK, (kind, start, len, 0)).map(drop)
}

fn run(cx: &mut Context) {
    let path = cx.path("locked");
    let (one, two) = (open(&path), open(&path));
    check_eq!(take(&one, libc::F_WRLCK, 0, 10), Ok(()), "a lock for writing");
    check_eq!(take(&one, libc::F_RDLCK, 50, 0), Ok(()), "a lock for reading, to the end");
    check_eq!(take(&two, libc::F_RDLCK, 60, 5), Ok(()), "another for reading");
    let child = cx.fork(|cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(take(&one, libc::F_WRLCK, 5, 1), Ok(()), "the child's own range");
        check_eq!(take(&two, libc::F_WRLCK, 5, 1), Err(libc::EAGAIN), "the other's, in the child");
    });
    cx.await_arrival(child);
    cx.ready_and_wait();
    cx.reap(child);
    check_eq!(take(&two, libc::F_RDLCK, 9, 1), Err(libc::EAGAIN), "what is locked for writing");
    check_eq!(take(&two, libc::F_WRLCK, 10, 40), Ok(()), "what is not locked");
    check_eq!(
        take(&two, libc::F_WRLCK, 1 << 50, 1),
        Err(libc::EAGAIN),
        "what is locked to the end"
    );
    check_eq!(take(&one, libc::F_WRLCK, 62, 1), Err(libc::EAGAIN), "what the other has locked");
}
