//! Items with `EPOLLEXCLUSIVE`, pending, consumed and idle.
//!
//! Verified: their states; that they cannot be modified; that they can be deleted.
//! CRIU: reports the consumed edge again.

use rustix::io::Errno;

use super::watch::{EDGE, EXCLUSIVE, Epoll, IN, NOTHING, event, rouse};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let files = [event(0), event(0), event(0), event(0)];
    let masks = [EDGE, EDGE, EDGE, 0];
    for ((file, mask), data) in files.iter().zip(masks).zip(0..) {
        epoll.add(file, IN | EXCLUSIVE | mask, data);
    }
    rouse(&files[1]);
    check_eq!(epoll.take(), [(1, IN)], "before");
    rouse(&files[3]);
    rouse(&files[0]);

    cx.ready_and_wait();

    check_eq!(epoll.take(), [(3, IN), (0, IN)], "what was pending");
    check_eq!(epoll.take(), [(3, IN)], "what is level-triggered");
    rouse(&files[2]);
    rouse(&files[1]);
    check_eq!(epoll.take(), [(3, IN), (2, IN), (1, IN)], "after events of the others");
    check_eq!(epoll.modify(&files[0], IN, 0), Err(Errno::INVAL), "modifying");
    check_eq!(epoll.delete(&files[3]), Ok(()), "deleting");
    check_eq!(epoll.take(), NOTHING, "after that");
}
