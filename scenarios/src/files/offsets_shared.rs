//! One open file description under several numbers and in several processes, and others of the
//! same file.
//!
//! Verified: seeking by one moves all that share it, in the other process too, and no other.
//! CRIU: works.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn at(file: &mut File) -> Option<u64> {
    file.stream_position().ok()
}

fn run(cx: &mut Context) {
    let path = cx.path("file");
    std::fs::write(&path, vec![b'x'; 1000]).expect("write");
    let open = || File::open(&path).expect("open");
    let mut shared = open();
    let mut copy = File::from(shared.as_fd().try_clone_to_owned().expect("dup"));
    let mut other = open();
    shared.seek(SeekFrom::Start(100)).expect("seek");
    other.seek(SeekFrom::Start(200)).expect("seek");
    let child = cx.fork(|cx| {
        let mut own = open();
        own.seek(SeekFrom::Start(300)).expect("seek");
        cx.arrive(sys::gettid());
        cx.wait_go();
        check_eq!(
            (at(&mut shared), at(&mut copy), at(&mut own)),
            (Some(100), Some(100), Some(300)),
            "the child's offsets"
        );
        shared.read_exact(&mut [0; 5]).expect("read");
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(
        (at(&mut shared), at(&mut copy)),
        (Some(105), Some(105)),
        "offset moved by the child"
    );
    copy.seek(SeekFrom::Start(7)).expect("seek");
    check_eq!(
        (at(&mut shared), at(&mut other)),
        (Some(7), Some(200)),
        "offsets after a seek by the duplicate"
    );
}
