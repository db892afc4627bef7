//! Fanotifies with events that nobody has read, which no restore can put back.
//!
//! Verified: that the program gets the events, or is told that some are lost; that it is told of
//! what happens afterwards; for those that report descriptors and those that report handles.
//! CRIU: loses the events without a word.

use std::fs;

use libc::{
    FAN_MARK_ADD, FAN_MODIFY, FAN_NONBLOCK, FAN_Q_OVERFLOW, FAN_REPORT_DFID_NAME, FAN_REPORT_FID,
    FAN_REPORT_PIDFD, O_RDWR,
};

use super::fanotify::{events, init, mark};
use crate::facts::Users;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).users(Users::Root);

fn run(cx: &mut Context) {
    let file = cx.path("marked");
    fs::write(&file, b"x").expect("write");
    let all = [0, FAN_REPORT_FID, FAN_REPORT_DFID_NAME | FAN_REPORT_PIDFD, FAN_REPORT_PIDFD];
    let groups = all.map(|flags| init(FAN_NONBLOCK | flags, O_RDWR).expect("fanotify_init"));
    for group in &groups {
        mark(group, FAN_MARK_ADD, FAN_MODIFY, &file).expect("fanotify_mark");
    }
    fs::write(&file, b"yy").expect("write");

    cx.ready_and_wait();

    let masks = |group| -> Vec<u64> { events(group).iter().map(|event| event.0).collect() };
    for (group, flags) in groups.iter().zip(all) {
        let found = masks(group);
        check!(
            found == [FAN_MODIFY] || found == [FAN_Q_OVERFLOW],
            "{flags:#x}: the events are {found:x?}"
        );
    }
    fs::write(&file, b"z").expect("write");
    for (group, flags) in groups.iter().zip(all) {
        check_eq!(masks(group), [FAN_MODIFY], "{flags:#x}: events of afterwards");
    }
}
