//! The order in which fifty ready files are reported: not that of their numbers, nor that of the adds.
//!
//! Verified: the events come in the order they happened, in one call and in calls for seven each.
//! CRIU: reports them in the order it adds them.

use super::watch::{EDGE, Epoll, IN, event, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let (whole, parts) = (Epoll::new(), Epoll::new());
    let files: Vec<_> = (0..50).map(|_| event(0)).collect();
    for (file, data) in files.iter().zip(0..) {
        whole.add(file, IN | EDGE, data);
        parts.add(file, IN | EDGE, data);
    }
    let order: Vec<u64> = (0..50).map(|step| step * 37 % 50).collect();
    for &data in &order {
        rouse(&files[data as usize]);
    }

    cx.ready_and_wait();

    let expected: Vec<_> = order.iter().map(|&data| (data, IN)).collect();
    check_eq!(whole.take(), expected, "in one call");
    for part in expected.chunks(7) {
        check_eq!(parts.take_some(7), part, "in several calls");
    }
}
