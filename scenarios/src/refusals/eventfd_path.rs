//! An eventfd opened with `O_PATH` by its link in `/proc`.
//!
//! Verified: the dump is refused for that, naming process and descriptor; the eventfd works.
//! CRIU: refuses.

use std::os::fd::{AsRawFd, IntoRawFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags, open};

use super::at_42;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("a kernel object opened with O_PATH");

fn run(cx: &mut Context) {
    let event = eventfd(3, EventfdFlags::CLOEXEC).expect("eventfd");
    let link = format!("/proc/self/fd/{}", event.as_raw_fd());
    let path = open(link, OFlags::PATH, Mode::empty()).expect("open");
    at_42(path.into_raw_fd());
    cx.ready_and_wait();
    let mut count = [0; 8];
    check_eq!(rustix::io::read(&event, &mut count[..]).ok(), Some(8), "read");
    check_eq!(u64::from_ne_bytes(count), 3, "count");
}
