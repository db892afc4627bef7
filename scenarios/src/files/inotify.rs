//! Inotifies: watches on a file, a directory and a symbolic link, with gaps in their numbers.
//!
//! Verified: that nothing is reported but what happens afterwards, under the same numbers; that
//! a watch can be removed by its number; one that is for one event only; the number of the next.
//! CRIU: gives the next watch the number of one that was removed.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

/// Watch, what happened, and the name.
type Event = (i32, ReadFlags, String);

fn events(watcher: &OwnedFd) -> Vec<Event> {
    let mut room = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(watcher, &mut room);
    let mut events = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                events.push((event.wd(), event.events(), name.unwrap_or_default()));
            }
            Err(Errno::AGAIN) => return events,
            Err(error) => {
                check!(false, "reading events: {error}");
                return events;
            }
        }
    }
}

fn run(cx: &mut Context) {
    let (dir, file, link) = (cx.path("watched"), cx.path("watched/file"), cx.path("link"));
    fs::create_dir(&dir).expect("mkdir");
    fs::write(&file, b"x").expect("write");
    symlink("nowhere", &link).expect("symlink");
    let watcher = inotify::init(CreateFlags::NONBLOCK).expect("inotify_init1");
    let quiet = inotify::init(CreateFlags::CLOEXEC).expect("inotify_init1");
    let add = |path: &std::path::Path, flags| {
        inotify::add_watch(&watcher, path, flags).expect("inotify_add_watch")
    };
    let gone: Vec<i32> = (0..3)
        .map(|_| {
            let watch = add(&file, WatchFlags::ALL_EVENTS);
            inotify::remove_watch(&watcher, watch).expect("inotify_rm_watch");
            watch
        })
        .collect();
    let on_dir = add(&dir, WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::EXCL_UNLINK);
    let on_file = add(&file, WatchFlags::MODIFY | WatchFlags::ONESHOT);
    let on_link = add(&link, WatchFlags::ATTRIB | WatchFlags::DONT_FOLLOW);
    // Number of the last one, which nothing in the list of watches tells.
    let last = add(cx.path("").as_path(), WatchFlags::DELETE_SELF);
    inotify::remove_watch(&watcher, last).expect("inotify_rm_watch");
    check_eq!(events(&watcher).len(), gone.len() + 1, "events of removed watches");

    cx.ready_and_wait();

    check_eq!(events(&watcher), [], "events while nothing happened");
    fs::write(dir.join("new"), b"").expect("write");
    fs::write(&file, b"yy").expect("write");
    fs::remove_file(&link).expect("unlink");
    let expected = [
        (on_dir, ReadFlags::CREATE, "new".to_owned()),
        (on_file, ReadFlags::MODIFY, String::new()),
        (on_file, ReadFlags::IGNORED, String::new()),
        (on_link, ReadFlags::ATTRIB, String::new()),
        (on_link, ReadFlags::IGNORED, String::new()),
    ];
    let found = events(&watcher);
    check_eq!(found[..], expected[..], "events");
    check_eq!(inotify::remove_watch(&watcher, on_dir), Ok(()), "removing a watch");
    check_eq!(inotify::remove_watch(&watcher, on_file), Err(Errno::INVAL), "one that is gone");
    check_eq!(inotify::add_watch(&quiet, &dir, WatchFlags::CREATE), Ok(1), "the first watch");
    let next = inotify::add_watch(&watcher, &file, WatchFlags::CREATE);
    check_eq!(next, Ok(last + 1), "the number of the next watch");
}
