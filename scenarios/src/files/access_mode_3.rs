//! A regular file and a device, opened neither for reading nor for writing.
//!
//! Verified: the access mode, with which both are refused, and the place in the file.
//! CRIU: works.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, SeekFrom, fcntl_getfl, open, seek};
use rustix::io::{Errno, read, write};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Access mode 3 (`open(2)`).
const NEITHER: OFlags = OFlags::ACCMODE;

fn run(cx: &mut Context) {
    let path = cx.path("file");
    std::fs::write(&path, "contents").expect("write");
    let file = open(&path, NEITHER, Mode::empty()).expect("open");
    let null = open("/dev/null", NEITHER, Mode::empty()).expect("open /dev/null");
    check_eq!(seek(&file, SeekFrom::Start(3)), Ok(3), "lseek");

    cx.ready_and_wait();

    let check = |file: &OwnedFd| {
        let access = fcntl_getfl(file).map(|flags| flags & OFlags::ACCMODE);
        check_eq!(access, Ok(NEITHER), "access mode");
        check_eq!(read(file, &mut [0; 1]), Err(Errno::BADF), "read");
        check_eq!(write(file, b"x"), Err(Errno::BADF), "write");
    };
    check(&file);
    check(&null);
    check_eq!(seek(&file, SeekFrom::Current(0)), Ok(3), "the place");
}
