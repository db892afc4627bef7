//! A thread with a descriptor table of its own: the same number is another file there, and it has
//! descriptors the process has not.
//!
//! Verified: what is read from descriptor 50 by each; which of 60 and 61 is open for whom.
//! CRIU: loses the table without a word: the thread gets the process's.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(sys::no_thread_pidfds);

/// Puts an open file with this text under the number, for good.
fn plant(cx: &Context, number: i32, text: &str) {
    let path = cx.path(text);
    fs::write(&path, text).expect("write");
    let file = fs::File::open(&path).expect("open");
    sys::dup2(file.as_raw_fd(), number);
}

fn verify(number: i32, expected: Option<&str>, who: &str) {
    // SAFETY: nothing in this program closes the number; if it is not open, the read says so.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let mut bytes = [0; 32];
    let found = rustix::io::read(fd, &mut bytes)
        .ok()
        .map(|n| String::from_utf8_lossy(&bytes[..n]).into_owned());
    check_eq!(found.as_deref(), expected, "text of descriptor {number} of {who}");
}

fn run(cx: &mut Context) {
    plant(cx, 50, "process");
    let (thread, _) = cx.thread(|cx| {
        // SAFETY: a plain flag; the copy has the same numbers.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0, "unshare(CLONE_FILES)");
        plant(cx, 50, "thread");
        plant(cx, 61, "thread only");
        cx.arrive(sys::gettid());
        cx.wait_go();
        verify(50, Some("thread"), "the thread");
        verify(60, None, "the thread");
        verify(61, Some("thread only"), "the thread");
    });
    plant(cx, 60, "process only");
    cx.ready_and_wait();
    verify(50, Some("process"), "the process");
    verify(60, Some("process only"), "the process");
    verify(61, None, "the process");
    check!(thread.join().is_ok(), "the thread panicked");
}
