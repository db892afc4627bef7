//! An inotify with events that nobody has read, which no restore can put back.
//!
//! Verified: that the program gets the events, or is told that some are lost; that it is told of
//! what happens afterwards.
//! CRIU: loses the events without a word.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn next(watcher: &OwnedFd) -> io::Result<(i32, ReadFlags)> {
    let mut room = [MaybeUninit::uninit(); 16];
    let mut reader = Reader::new(watcher, &mut room);
    let event = reader.next()?;
    Ok((event.wd(), event.events()))
}

fn run(cx: &mut Context) {
    let file = cx.path("watched");
    fs::write(&file, b"x").expect("write");
    let watcher = inotify::init(CreateFlags::NONBLOCK).expect("inotify_init1");
    let watch = inotify::add_watch(&watcher, &file, WatchFlags::MODIFY | WatchFlags::ATTRIB)
        .expect("inotify_add_watch");
    fs::write(&file, b"yy").expect("write");

    cx.ready_and_wait();

    let found = next(&watcher).map_err(|error| error.kind());
    let event = found == Ok((watch, ReadFlags::MODIFY));
    let overflow = found == Ok((-1, ReadFlags::QUEUE_OVERFLOW));
    check!(event || overflow, "the first event is {found:?}");
    let none = next(&watcher).map_err(|error| error.kind());
    check_eq!(none, Err(io::ErrorKind::WouldBlock), "a second event");
    fs::remove_file(&file).expect("unlink");
    let found = next(&watcher).map_err(|error| error.kind());
    check_eq!(found, Ok((watch, ReadFlags::ATTRIB)), "an event of afterwards");
}
