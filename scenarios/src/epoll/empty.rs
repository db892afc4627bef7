//! An epoll without items, one whose only item was deleted, and one whose file is closed everywhere.
//!
//! Verified: none reports anything, and all can be used.
//! CRIU: works.

use super::watch::{Epoll, IN, NOTHING, at, event, plant};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let file = event(1);
    let [empty, deleted, closed] = [Epoll::new(), Epoll::new(), Epoll::new()];
    deleted.add(&file, IN, 1);
    check_eq!(deleted.delete(&file), Ok(()), "deleting");
    plant(event(1), 50);
    closed.add(at(50), IN, 2);
    sys::close(50);

    cx.ready_and_wait();

    for epoll in [&empty, &deleted, &closed] {
        check_eq!(epoll.take(), NOTHING, "before an item is added");
        epoll.add(&file, IN, 3);
        check_eq!(epoll.take(), [(3, IN)], "after it");
    }
}
