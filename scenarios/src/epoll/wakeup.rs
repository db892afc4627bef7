//! Items with `EPOLLWAKEUP`, which take `CAP_BLOCK_SUSPEND`, and a kernel that can suspend.
//!
//! Verified: the flag is there, by fdinfo, and the item works.
//! CRIU: not seen: no machine at hand keeps the flag.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{EDGE, ERR, Epoll, HUP, IN, ONCE, event, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .users(crate::Users::Root)
    .missing(cannot_keep_awake)
    .dump_faults();

/// The flag is dropped without a word where it means nothing.
fn cannot_keep_awake() -> Option<String> {
    let epoll = Epoll::new();
    let file = event(0);
    epoll.add(&file, IN | WAKEUP, 1);
    (mask(&epoll) & WAKEUP == 0).then(|| "the kernel does not keep EPOLLWAKEUP".into())
}

const WAKEUP: u32 = libc::EPOLLWAKEUP as u32;

/// The mask of the only item.
fn mask(epoll: &Epoll) -> u32 {
    let path = format!("/proc/self/fdinfo/{}", epoll.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).expect("fdinfo");
    let events = text.split("events:").nth(1).and_then(|rest| rest.split_whitespace().next());
    events.and_then(|hex| u32::from_str_radix(hex, 16).ok()).expect("an item")
}

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let file = event(0);
    epoll.add(&file, IN | EDGE | WAKEUP, 1);
    rouse(&file);

    cx.ready_and_wait();

    check_eq!(mask(&epoll), IN | ERR | HUP | EDGE | WAKEUP, "the mask");
    check_eq!(epoll.take(), [(1, IN)], "what was pending");
    check_eq!(epoll.modify(&file, IN | ONCE | WAKEUP, 2), Ok(()), "modifying");
    check_eq!(mask(&epoll), IN | ERR | HUP | ONCE | WAKEUP, "the mask after that");
}
