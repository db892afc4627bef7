//! Items on signalfds: they hang on the signals of the process that added them. One by a live key, one
//! by a stale one, and one on a signal that waits.
//!
//! Verified: what waits is reported, and what is sent later, by each item.
//! CRIU: the live ones work.

use super::watch::{EDGE, Epoll, IN, NOTHING, at, plant, signalfd, take_signal};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let [live, stale, waiting] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP].map(signalfd);
    epoll.add(&live, IN, 1);
    plant(&stale, 50);
    epoll.add(at(50), IN | EDGE, 2);
    sys::close(50);
    epoll.add(&waiting, IN, 3);
    let own = std::process::id() as i32;
    sys::kill(own, libc::SIGHUP);

    cx.ready_and_wait();

    check_eq!(epoll.take(), [(3, IN)], "what waits");
    take_signal(&waiting);
    check_eq!(epoll.take(), NOTHING, "when nothing does");
    for (signal, file, data) in [(libc::SIGUSR2, &stale, 2), (libc::SIGUSR1, &live, 1)] {
        sys::kill(own, signal);
        check_eq!(epoll.take(), [(data, IN)], "signal {signal}");
        take_signal(file);
        check_eq!(epoll.take(), NOTHING, "signal {signal}, taken");
    }
    check_eq!(epoll.delete(&live), Ok(()), "deleting by the number");
}
