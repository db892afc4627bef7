//! Signalfds among other files in the order of what is ready, in an epoll that another watches, which has one as
//! well: what comes before and after them is level-triggered, also with `EPOLLEXCLUSIVE`, an edge, and a one-shot,
//! and one of them is an edge itself.
//!
//! Verified: the order in which all are reported, and what is left of them.
//! CRIU: reports the signals first.

use super::watch::{
    EDGE, EXCLUSIVE, Epoll, IN, NOTHING, ONCE, event, rouse, signalfd, take_signal,
};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let (epoll, outer) = (Epoll::new(), Epoll::new());
    let signals = [libc::SIGUSR1, libc::SIGUSR2].map(|signal| (signal, signalfd(signal)));
    let masks = [0, EDGE, ONCE, EXCLUSIVE, 0, EDGE | ONCE];
    let files = masks.map(|_| event(0));
    outer.add(&epoll, IN, 90);
    for ((_, file), (mask, data)) in signals.iter().zip([(0, 10), (EDGE, 11)]) {
        epoll.add(file, IN | mask, data);
    }
    for ((file, mask), data) in files.iter().zip(masks).zip(0..6_u32).rev() {
        epoll.add(file, IN | mask, data.into());
    }
    // One whose only event is a signal, in one that waits for the same.
    let lonely = Epoll::new();
    lonely.add(&signals[0].1, IN, 20);
    outer.add(&signals[0].1, IN, 92);
    outer.add(&lonely, IN, 93);
    let other = event(0);
    outer.add(&other, IN, 91);
    let own = std::process::id() as i32;
    let send = |index: usize| sys::kill(own, signals[index].0);

    rouse(&files[3]);
    rouse(&files[1]);
    send(0);
    rouse(&files[2]);
    rouse(&files[0]);
    send(1);
    rouse(&files[5]);
    rouse(&files[4]);
    rouse(&other);

    cx.ready_and_wait();

    let mut of_outer = outer.take();
    of_outer.sort_unstable();
    check_eq!(of_outer, [90, 91, 92, 93].map(|data| (data, IN)), "the outer one");
    check_eq!(lonely.take(), [(20, IN)], "the one inside with a signal");
    // A signal wakes the items on all signalfds, the newest first.
    let all = [3, 1, 11, 10, 2, 0, 5, 4].map(|data| (data, IN));
    check_eq!(epoll.take_some(2), all[..2], "the first");
    let rest: Vec<_> = all[2..].iter().chain([&(3, IN)]).copied().collect();
    check_eq!(epoll.take(), rest, "all");
    check_eq!(epoll.take(), [(10, IN), (0, IN), (4, IN), (3, IN)], "what is level-triggered");
    for (_, file) in &signals {
        take_signal(file);
    }
    for (file, _) in files.iter().zip(masks).filter(|(_, mask)| mask & (EDGE | ONCE) == 0) {
        check_eq!(epoll.delete(file), Ok(()), "deleting");
    }
    check_eq!(epoll.take(), NOTHING, "what is left");
    send(1);
    rouse(&files[1]);
    rouse(&files[2]);
    check_eq!(epoll.take(), [(11, IN), (1, IN)], "what comes after, but for one-shots");
    take_signal(&signals[1].1);
}
