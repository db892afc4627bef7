//! One-shots on signalfds that were reported, by a live and a stale key, and an edge that was, beside one
//! that is armed; the signals are taken, and one waits.
//!
//! Verified: the fired ones report nothing, whatever is sent, until they are armed.
//! CRIU: arms them for hang-ups and errors.

use super::watch::{EDGE, Epoll, IN, NOTHING, ONCE, at, plant, signalfd, take_signal};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let own = std::process::id() as i32;
    let signals = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP, libc::SIGCONT];
    let [live, stale, armed, waiting] = signals.map(signalfd);
    epoll.add(&live, IN | ONCE, 1);
    plant(&stale, 50);
    epoll.add(at(50), IN | ONCE | EDGE, 2);
    sys::close(50);
    epoll.add(&waiting, IN | ONCE, 4);
    for (signal, data) in [(libc::SIGUSR1, 1), (libc::SIGUSR2, 2), (libc::SIGCONT, 4)] {
        sys::kill(own, signal);
        check_eq!(epoll.take(), [(data, IN)], "signal {signal} before");
    }
    take_signal(&live);
    take_signal(&stale);
    epoll.add(&armed, IN | ONCE, 3);

    cx.ready_and_wait();

    check_eq!(epoll.take(), NOTHING, "before any signal");
    for signal in [libc::SIGUSR1, libc::SIGUSR2] {
        sys::kill(own, signal);
    }
    check_eq!(epoll.take(), NOTHING, "signals of those that have fired");
    sys::kill(own, libc::SIGHUP);
    check_eq!(epoll.take(), [(3, IN)], "the one that has not");
    take_signal(&armed);
    check_eq!(epoll.modify(&live, IN | ONCE, 11), Ok(()), "arming");
    check_eq!(epoll.take(), [(11, IN)], "armed");
    check_eq!(epoll.modify(&waiting, IN | ONCE, 14), Ok(()), "arming what waits");
    check_eq!(epoll.take(), [(14, IN)], "armed, what waits");
    plant(&stale, 50);
    check_eq!(epoll.modify(at(50), IN | ONCE, 12), Ok(()), "arming by a stale key");
    check_eq!(epoll.take(), [(12, IN)], "armed by a stale key");
    sys::close(50);
    [&live, &stale, &waiting].into_iter().for_each(take_signal);
}
