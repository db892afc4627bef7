//! An item on a signalfd that was added by a process which has ended: it waits for nobody's signals.
//!
//! Verified: the dump is refused, and the item is as deaf as it was.
//! CRIU: makes it wait for those of a process that has the epoll.

use crate::epoll::watch::{EDGE, Epoll, IN, NOTHING, at_epoll, plant, signalfd};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("watches the signals of a process that has ended");

fn run(cx: &mut Context) {
    plant(Epoll::new(), 42);
    let epoll = at_epoll(42);
    let signals = signalfd(libc::SIGUSR1);
    let child = cx.fork(|_| epoll.add(&signals, IN | EDGE, 1));
    cx.reap(child);
    // Its end was reported to the item.
    check_eq!(epoll.take(), NOTHING, "what is left of the child");

    cx.ready_and_wait();

    sys::kill(std::process::id() as i32, libc::SIGUSR1);
    check_eq!(epoll.take(), NOTHING, "a signal for an item that waits for nobody's");
}
