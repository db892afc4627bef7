//! Two processes with one descriptor table (`clone` with `CLONE_FILES`).
//!
//! Verified: what one opens and closes afterwards, the other finds open and closed.
//! CRIU: works.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn is_open(number: i32) -> bool {
    // SAFETY: the number is only looked at; if nothing is open there the call says so.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok()
}

fn run(cx: &mut Context) {
    let file = File::open("/dev/null").expect("open");
    sys::dup2(file.as_raw_fd(), 90);
    let child = cx.fork_sharing(libc::CLONE_FILES, |cx| {
        cx.arrive(sys::gettid());
        cx.wait_go();
        check!(is_open(90), "the descriptor opened before is not open");
        sys::dup2(90, 95);
        sys::close(90);
    });
    cx.await_arrival(child);
    sys::dup2(90, 91);

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(
        [90, 91, 95].map(is_open),
        [false, true, true],
        "what is open after the child's changes"
    );
}
