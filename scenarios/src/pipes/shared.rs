//! Pipes between processes: parent to child, child to child, with bytes under way.
//!
//! Verified: the bytes under way come first, then those sent afterwards; end of file when the last
//! writer has gone, and not before.
//! CRIU: works.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::{read, write};
use rustix::pipe::pipe;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// Everything up to end of file.
fn read_all(fd: &OwnedFd) -> String {
    let (mut all, mut part) = (Vec::new(), [0; 100]);
    while let Ok(n @ 1..) = read(fd, &mut part) {
        all.extend_from_slice(&part[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn run(cx: &mut Context) {
    let (from_root, to_first) = pipe().expect("pipe");
    let (from_first, to_second) = pipe().expect("pipe");
    let (from_second, to_root) = pipe().expect("pipe");
    check_eq!(write(&to_first, b"from the root; "), Ok(15), "write");
    let mut ends = Some((from_root, to_second));
    let first = cx.fork(|cx| {
        let (from_root, to_second) = ends.take().expect("taken once in each process");
        [
            to_first.as_raw_fd(),
            from_first.as_raw_fd(),
            from_second.as_raw_fd(),
            to_root.as_raw_fd(),
        ]
        .iter()
        .for_each(|&n| sys::close(n));
        check_eq!(write(&to_second, b"first, early; "), Ok(14), "write");
        cx.arrive(sys::gettid());
        cx.wait_go();
        let got = read_all(&from_root);
        check_eq!(got, "from the root; and again", "what the first child read");
        check_eq!(write(&to_second, b"first, late"), Ok(11), "write");
    });
    drop(ends);
    let second = cx.fork(|cx| {
        [to_first.as_raw_fd(), from_second.as_raw_fd()].iter().for_each(|&n| sys::close(n));
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(read_all(&from_first), "first, early; first, late", "what the second child read");
        check_eq!(write(&to_root, b"done"), Ok(4), "write");
    });
    drop((from_first, to_root));
    cx.await_arrival(first);
    cx.await_arrival(second);

    cx.ready_and_wait();

    check_eq!(write(&to_first, b"and again"), Ok(9), "write");
    drop(to_first);
    check_eq!(read_all(&from_second), "done", "what the root read");
    cx.reap(first);
    cx.reap(second);
}
