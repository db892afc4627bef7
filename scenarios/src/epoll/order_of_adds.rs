//! Several items of one file in two epolls: the file tells them newest first.
//!
//! Verified: an event after comes out in the reverse order of the adds, by whatever number.
//! CRIU: gives two items one number, and the restore fails.

use super::watch::{EDGE, Epoll, IN, NOTHING, at, event, plant, rouse};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let file = event(0);
    let numbers = [57, 50, 61, 53];
    for number in numbers {
        plant(&file, number);
        epoll.add(at(number), IN | EDGE, number as u64);
    }
    check_eq!(epoll.modify(at(57), IN | EDGE, 57), Ok(()), "modifying, which changes no order");
    sys::close(50);

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "before the event");
    rouse(&file);
    let expected: Vec<_> = numbers.iter().rev().map(|&number| (number as u64, IN)).collect();
    check_eq!(epoll.take(), expected, "after it");
}
