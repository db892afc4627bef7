//! One-shots on inotifies that were reported: one whose event was read, one whose event waits, and one
//! whose only watch has a high number.
//!
//! Verified: no further event is reported; armed again, each is.
//! CRIU: arms them for hang-ups and errors.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, WatchFlags};
use rustix::io::read;

use super::watch::{Epoll, IN, NOTHING, ONCE};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

/// An inotify whose watch on the directory has this number.
fn watching(dir: &Path, number: i32) -> OwnedFd {
    let file = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify_init1");
    let watch = || inotify::add_watch(&file, dir, WatchFlags::CREATE).expect("inotify_add_watch");
    while watch() != number {
        inotify::remove_watch(&file, watch()).expect("inotify_rm_watch");
    }
    empty(&file);
    file
}

fn empty(file: impl AsFd) {
    while read(&file, &mut [0; 4096]).is_ok() {}
}

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let dir = cx.path("dir");
    fs::create_dir(&dir).expect("mkdir");
    let inotifies = [1, 1, 5].map(|number| watching(&dir, number));
    for (file, data) in inotifies.iter().zip(0..) {
        epoll.add(file, IN | ONCE, data);
    }
    fs::write(dir.join("before"), "").expect("write");
    // Which inotify is told first depends on where they lie in the kernel's memory.
    let mut told = epoll.take();
    told.sort_unstable();
    check_eq!(told, [(0, IN), (1, IN), (2, IN)], "before");
    empty(&inotifies[0]);
    empty(&inotifies[2]);

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "before any event");
    fs::write(dir.join("after"), "").expect("write");
    check_eq!(epoll.take(), NOTHING, "an event");
    for (file, data) in inotifies.iter().zip(10..) {
        check_eq!(epoll.modify(file, IN | ONCE, data), Ok(()), "arming");
        check_eq!(epoll.take(), [(data, IN)], "armed");
        empty(file);
    }
}
