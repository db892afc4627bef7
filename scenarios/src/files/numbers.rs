//! Descriptor numbers: with gaps, up to a thousand and beyond, the first three closed.
//!
//! Verified: exactly the numbers that were open are open, each with its own file; the next one
//! opened gets the lowest free number.
//! CRIU: works.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

/// Quadratic gaps up to a thousand, a block, and the highest a usual limit of 4096 allows.
fn numbers() -> impl Iterator<Item = i32> {
    (3..32).map(|i| i * i).chain(500..520).chain([4000, 4095]).filter(|n| *n != 2)
}

fn open_now() -> BTreeSet<i32> {
    let names = std::fs::read_dir("/proc/self/fd").expect("own descriptors");
    let mut set: BTreeSet<i32> =
        names.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    // The directory's own.
    set.retain(|&n| std::fs::read_link(format!("/proc/self/fd/{n}")).is_ok());
    set
}

fn run(cx: &mut Context) {
    let path = cx.path("numbers");
    std::fs::write(&path, vec![b'n'; 5000]).expect("write");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let more = rustix::process::Rlimit { current: Some(4096), ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, more).expect("setrlimit");
    for number in numbers() {
        let file = std::fs::File::open(&path).expect("open");
        rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Start(number as u64)).expect("seek");
        sys::dup2(file.as_raw_fd(), number);
    }
    // 2 is where faults are told.
    sys::close(0);
    sys::close(1);
    let before = open_now();

    cx.ready_and_wait();

    check_eq!(open_now(), before, "open numbers");
    for number in numbers() {
        // SAFETY: open, as was just checked, and nothing closes it.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        check_eq!(rustix::fs::tell(fd), Ok(number as u64), "offset of {number}");
    }
    let next = std::fs::File::open(&path).expect("open");
    check_eq!(next.as_raw_fd(), 0, "the lowest free number");
    check_eq!(next.read_at(&mut [0; 3], 0).ok(), Some(3), "reading what was opened afterwards");
}
