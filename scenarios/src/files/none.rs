//! A process that has no descriptor open at all, and is the root of its tree.
//!
//! Verified: none is open after, so the next one gets the lowest number.
//! CRIU: works.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let faults = cx.path("err");
    // SAFETY: nothing that is used from here on has a descriptor.
    assert_eq!(unsafe { libc::close_range(0, u32::MAX, 0) }, 0, "close_range");

    cx.ready_and_wait();

    let open = || OpenOptions::new().append(true).open(&faults).expect("the file of faults");
    let files = [open(), open(), open()];
    // 2 is where faults are told.
    check_eq!(files.each_ref().map(AsRawFd::as_raw_fd), [0, 1, 2], "the lowest numbers");
    std::mem::forget(files);
}
