//! An AIO context with a poll in flight, which nothing but its file ends.
//!
//! Verified: the dump is refused, naming process and what it is about; then the poll completes.
//! CRIU: dumps it, and loses the request.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use crate::sys::{self, Aio};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("asynchronous I/O").missing(|| {
        let works = Aio::setup(1).is_ok();
        (!works).then(|| "there is no room for an AIO context (fs.aio-max-nr)".into())
    });

fn run(cx: &mut Context) {
    // SAFETY: plain numbers.
    let fd = sys::done(unsafe { libc::eventfd(0, 0) }).expect("eventfd") as i32;
    // SAFETY: nobody else has it.
    let event = unsafe { OwnedFd::from_raw_fd(fd) };
    let aio = Aio::setup(1).expect("io_setup");
    aio.poll(event.as_fd(), 7);

    cx.ready_and_wait();

    check_eq!(aio.events(0, 1), [], "completions before anything has happened");
    let mut file = File::from(event);
    file.write_all(&1_u64.to_ne_bytes()).expect("write");
    check_eq!(aio.events(1, 1), [(7, i64::from(libc::POLLIN))], "completion of the poll");
}
