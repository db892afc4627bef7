//! A fanotify that reports file handles and names in place of descriptors, as anybody may have.
//!
//! Verified: that its events have the same handle and name; that it may mark mounts if it was made
//! with privilege, and else not.
//! CRIU: gives a group that was made without privilege more rights.

use std::fs;
use std::path::Path;

use libc::{
    FAN_CREATE, FAN_MARK_ADD, FAN_MARK_MOUNT, FAN_MOVED_FROM, FAN_NONBLOCK, FAN_ONDIR, FAN_OPEN,
    FAN_REPORT_DFID_NAME, O_RDONLY,
};

use super::fanotify::{events, init, mark};
use crate::{Context, Scenario, User};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let dir = cx.path("marked");
    fs::create_dir(&dir).expect("mkdir");
    let (one, two) = (dir.join("name"), dir.join("other"));
    let flags = FAN_NONBLOCK | FAN_REPORT_DFID_NAME;
    let group = init(flags, O_RDONLY).expect("fanotify_init");
    mark(&group, FAN_MARK_ADD, FAN_CREATE | FAN_MOVED_FROM | FAN_ONDIR, &dir).expect("mark");
    fs::write(&one, b"").expect("write");
    let before = events(&group);
    fs::remove_file(&one).expect("unlink");

    cx.ready_and_wait();

    check_eq!(events(&group), [], "events while nothing happened");
    fs::write(&one, b"").expect("write");
    let after = events(&group);
    check_eq!(after, before, "the event of a new file");
    check_eq!(after.len(), 1, "events of a new file");
    fs::rename(&one, &two).expect("rename");
    let masks: Vec<u64> = events(&group).iter().map(|event| event.0).collect();
    check_eq!(masks, [FAN_MOVED_FROM], "events of a renaming");
    let marked = mark(&group, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, Path::new("/dev/shm"));
    check_eq!(marked.is_ok(), cx.user() == User::Root, "marking a mount");
}
