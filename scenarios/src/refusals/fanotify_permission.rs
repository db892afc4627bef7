//! A fanotify that is asked for permission, so that others wait while it stands still.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on and the
//! object works.
//! CRIU: dumps it, and whoever opens the file waits for good.

use std::fs;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use libc::{
    FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_MARK_REMOVE, FAN_MODIFY, FAN_NONBLOCK, FAN_OPEN_PERM,
    O_RDONLY,
};

use super::at_42;
use crate::facts::Users;
use crate::files::fanotify::{events, init, mark};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).refused("fanotify");

fn run(cx: &mut Context) {
    let file = cx.path("marked");
    fs::write(&file, b"x").expect("write");
    at_42(init(FAN_NONBLOCK | FAN_CLASS_CONTENT, O_RDONLY).expect("fanotify_init").into_raw_fd());
    // SAFETY: it was put there.
    let group = unsafe { OwnedFd::from_raw_fd(42) };
    mark(&group, FAN_MARK_ADD, FAN_OPEN_PERM | FAN_MODIFY, &file).expect("fanotify_mark");
    cx.ready_and_wait();
    mark(&group, FAN_MARK_REMOVE, FAN_OPEN_PERM, &file).expect("fanotify_mark");
    fs::write(&file, b"y").expect("write");
    let found: Vec<u64> = events(&group).iter().map(|event| event.0).collect();
    check_eq!(found, [FAN_MODIFY], "events");
}
