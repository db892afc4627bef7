//! Level-triggered items, edges and one-shots that are ready in an order of their own.
//!
//! Verified: they come in that order, then the level-triggered ones again.
//! CRIU: reports them in the order it adds them, and consumed ones too.

use super::watch::{EDGE, Epoll, IN, ONCE, OUT, event, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files: Vec<_> = (0..12).map(|_| event(0)).collect();
    let mask = |data: u64| [IN, IN | EDGE, IN | ONCE, IN | OUT | EDGE][data as usize % 4];
    for (file, data) in files.iter().zip(0..) {
        epoll.add(file, mask(data), data);
    }
    // The last kind can be written, and was reported so.
    check_eq!(epoll.take().len(), 3, "before");
    let order = [7, 0, 10, 5, 4, 3, 6, 1];
    for data in order {
        rouse(&files[data]);
    }

    cx.ready_and_wait();

    let both = |data: u64| (data, if data % 4 == 3 { IN | OUT } else { IN });
    let expected: Vec<_> = order.into_iter().map(|data| both(data as u64)).collect();
    check_eq!(epoll.take(), expected, "all");
    check_eq!(epoll.take(), [(0, IN), (4, IN)], "the level-triggered ones");
}
