//! All 64 bits of an item's data, also where items have the same.
//!
//! Verified: the data of every event.
//! CRIU: works.

use super::watch::{EDGE, Epoll, IN, event, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let data = [0, 1, u64::MAX, 1 << 63, 1 << 32, 0xdead_beef_0bad_cafe, 1, u64::MAX];
    let files = data.map(|_| event(0));
    for (file, data) in files.iter().zip(data) {
        epoll.add(file, IN | EDGE, data);
    }

    cx.ready_and_wait();

    files.iter().for_each(rouse);
    check_eq!(epoll.take(), data.map(|data| (data, IN)), "the events");
}
