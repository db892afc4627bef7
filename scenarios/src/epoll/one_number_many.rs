//! Twenty items under one number, which stands for none of their files any more.
//!
//! Verified: each file is reported with its own data, in the order of the events.
//! CRIU: gives each item the number its file has now.

use super::watch::{EDGE, Epoll, IN, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files: Vec<_> = (0..20).map(|_| event(0)).collect();
    for (file, data) in files.iter().zip(0..) {
        plant(file, 50);
        epoll.add(at(50), IN | EDGE, data);
    }
    sys::close(50);

    cx.ready_and_wait();

    for file in files.iter().rev() {
        rouse(file);
    }
    let expected: Vec<_> = (0..20).rev().map(|data| (data, IN)).collect();
    check_eq!(epoll.take(), expected, "the events");
}
