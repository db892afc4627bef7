//! An inotify that watches a deleted file, which the program has open.
//!
//! Verified: that writing to the file is still reported, and then that it is gone.
//! CRIU: works.

use std::fs::{self, File};
use std::io::Write;
use std::mem::MaybeUninit;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .differs(&[("*/fd/*/info", "a deleted file comes back as another inode")]);

fn run(cx: &mut Context) {
    let path = cx.path("watched");
    let mut file = File::create(&path).expect("create");
    fs::remove_file(&path).expect("unlink");
    let watcher = inotify::init(CreateFlags::NONBLOCK).expect("inotify_init1");
    let events = WatchFlags::MODIFY | WatchFlags::DELETE_SELF;
    let open = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let watch = inotify::add_watch(&watcher, open, events).expect("inotify_add_watch");

    cx.ready_and_wait();

    file.write_all(b"x").expect("write");
    drop(file);
    let mut room = [MaybeUninit::uninit(); 1024];
    let mut reader = Reader::new(&watcher, &mut room);
    for expected in [ReadFlags::MODIFY, ReadFlags::DELETE_SELF, ReadFlags::IGNORED] {
        let found = reader.next().map(|event| (event.wd(), event.events()));
        check_eq!(found, Ok((watch, expected)), "an event");
    }
}
