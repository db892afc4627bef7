//! One file under two numbers, both closed, and open under a third that nobody watches.
//!
//! Verified: its event is reported twice.
//! CRIU: both items get the third number, and the restore fails.

use super::watch::{Epoll, IN, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let file = event(0);
    for number in [50, 51] {
        plant(&file, number);
        epoll.add(at(number), IN, number as u64);
        sys::close(number);
    }

    cx.ready_and_wait();

    rouse(&file);
    check_eq!(epoll.take(), [(51, IN), (50, IN)], "the events");
    epoll.add(&file, IN, 1);
    check_eq!(epoll.take(), [(51, IN), (50, IN), (1, IN)], "with the third number watched");
}
