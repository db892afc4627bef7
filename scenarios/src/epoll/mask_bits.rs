//! Masks with every condition there is and bits that mean nothing.
//!
//! Verified: what is reported, in whatever order, and the masks by fdinfo, which shows all bits.
//! CRIU: works.

use std::os::fd::{AsFd, AsRawFd};

use super::watch::{EDGE, Epoll, IN, ONCE, OUT, event, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let masks = [0x7fff, 0x0fff_7fff, 0x0fff_0001, 0x2000 | EDGE, 0x40 | ONCE];
    let files = masks.map(|mask| {
        let file = event(0);
        epoll.add(&file, mask, u64::from(mask));
        file
    });
    let shown = || {
        let path = format!("/proc/self/fdinfo/{}", epoll.as_fd().as_raw_fd());
        let text = std::fs::read_to_string(path).expect("fdinfo");
        let fields = text.split("events:").skip(1);
        let mut all: Vec<_> =
            fields.filter_map(|rest| rest.split_whitespace().next().map(str::to_owned)).collect();
        all.sort_unstable();
        all
    };
    let before = shown();
    let taken = || {
        let mut all = epoll.take();
        all.sort_unstable();
        all
    };

    cx.ready_and_wait();

    check_eq!(shown(), before, "the masks");
    check_eq!(taken(), [(0x7fff, OUT), (0x0fff_7fff, OUT)], "before the events");
    files.iter().for_each(rouse);
    let expected = [(0x7fff, IN | OUT), (0x0fff_0001, IN), (0x0fff_7fff, IN | OUT)];
    check_eq!(taken(), expected, "after them");
}
