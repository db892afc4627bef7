//! An item on a signalfd that was added by a process which is not in the tree: one that has called `setsid`,
//! and whose parent has ended.
//!
//! Verified: the dump is refused, and the item is as deaf to others as it was.
//! CRIU: makes it wait for those of a process that has the epoll.

use crate::context::until;
use crate::epoll::watch::{EDGE, Epoll, IN, NOTHING, at_epoll, plant, signalfd, take_signal};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .refused("watches the signals of a process that is not in the tree");

fn run(cx: &mut Context) {
    plant(Epoll::new(), 42);
    let epoll = at_epoll(42);
    let signals = signalfd(libc::SIGUSR1);
    cx.stranger(|cx| {
        epoll.add(&signals, IN | EDGE, 1);
        sys::close(42);
        cx.publish("stranger", &sys::gettid().to_string());
        until("the end of the root", || cx.path("done").exists());
    });
    until("the stranger", || cx.path("stranger").exists());

    cx.ready_and_wait();

    sys::kill(std::process::id() as i32, libc::SIGUSR1);
    check_eq!(epoll.take(), NOTHING, "a signal for an item that waits for another's");
    take_signal(&signals);
    cx.publish("done", "");
}
