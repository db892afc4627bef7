//! Edges on signalfds that were reported, and whose signals wait still, for the process or for a thread;
//! beside one that is about to be reported, a level-triggered item, and a one-shot that has not fired.
//!
//! Verified: nothing that was reported is again, until the next signal comes.
//! CRIU: reports all.

use std::time::Duration;

use super::watch::{EDGE, Epoll, IN, NOTHING, ONCE, signalfd, take_signal};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let own = std::process::id() as i32;
    let queued = libc::SIGRTMIN() + 3;
    let signals = [libc::SIGUSR1, libc::SIGUSR2, queued, libc::SIGALRM];
    let files = signals.map(signalfd);
    for (file, data) in files.iter().zip(0..) {
        epoll.add(file, IN | EDGE, data);
    }
    sys::kill(own, libc::SIGUSR1);
    check!(sys::raise(libc::SIGUSR2), "a signal for this thread");
    sys::kill(own, queued);
    sys::kill(own, queued);
    sys::set_itimer(libc::ITIMER_REAL, Duration::from_millis(1), Duration::ZERO);
    crate::context::until("the alarm", || sys::pending() & sys::sigset(&[libc::SIGALRM]) != 0);
    let mut told = epoll.take();
    told.sort_unstable();
    check_eq!(told, [(0, IN), (1, IN), (2, IN), (3, IN)], "all of them");
    let outer = Epoll::new();
    outer.add(&epoll, IN | EDGE, 7);
    // What is added when its signal waits is about to be reported.
    let (other, level) = (Epoll::new(), Epoll::new());
    other.add(&files[0], IN | EDGE, 10);
    other.add(&files[1], IN | ONCE, 11);
    level.add(&files[2], IN, 12);

    cx.ready_and_wait();

    check_eq!(outer.take(), NOTHING, "around it");
    check_eq!(epoll.take(), NOTHING, "what was reported");
    let mut told = other.take();
    told.sort_unstable();
    check_eq!(told, [(10, IN), (11, IN)], "what was not");
    check_eq!(level.take(), [(12, IN)], "what waits");
    sys::kill(own, queued);
    check_eq!(outer.take(), [(7, IN)], "around it");
    let mut told = epoll.take();
    told.sort_unstable();
    // The kernel tells whoever watches any signal of a process of each of them.
    check_eq!(told, [(0, IN), (1, IN), (2, IN), (3, IN)], "one more signal");
    [0, 1, 2, 2, 2, 3].into_iter().for_each(|file: usize| take_signal(&files[file]));
}
