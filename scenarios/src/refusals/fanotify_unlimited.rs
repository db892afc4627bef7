//! A fanotify with events that nobody has read, in a queue that never overflows: no event would say
//! that some are lost.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on and has
//! its events.
//! CRIU: loses the events without a word.

use std::fs;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use libc::{FAN_MARK_ADD, FAN_MODIFY, FAN_NONBLOCK, FAN_UNLIMITED_QUEUE, O_RDONLY};

use super::at_42;
use crate::facts::Users;
use crate::files::fanotify::{events, init, mark};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).refused("fanotify");

fn run(cx: &mut Context) {
    let file = cx.path("marked");
    fs::write(&file, b"x").expect("write");
    at_42(init(FAN_NONBLOCK | FAN_UNLIMITED_QUEUE, O_RDONLY).expect("fanotify_init").into_raw_fd());
    // SAFETY: it was put there.
    let group = unsafe { OwnedFd::from_raw_fd(42) };
    mark(&group, FAN_MARK_ADD, FAN_MODIFY, &file).expect("fanotify_mark");
    fs::write(&file, b"y").expect("write");
    cx.ready_and_wait();
    let found: Vec<u64> = events(&group).iter().map(|event| event.0).collect();
    check_eq!(found, [FAN_MODIFY], "events");
}
