//! Items on signalfds in an epoll that parent and child have: each waits for the signals of the one that
//! added it, before the fork or after, and reports those of the one that looks.
//!
//! Verified: signals of either process are reported by its own items and by no others; what has fired
//! before the fork stays so until it is armed.
//! CRIU: all items are those of one process.

use super::watch::{EDGE, Epoll, IN, NOTHING, ONCE, signalfd, take_signal};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let own = std::process::id() as i32;
    let [first, second, fired] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP].map(signalfd);
    epoll.add(&first, IN | EDGE, 1);
    epoll.add(&fired, IN | ONCE, 3);
    sys::kill(own, libc::SIGHUP);
    check_eq!(epoll.take(), [(3, IN)], "the one that fires");
    take_signal(&fired);
    let child = cx.fork(|cx| {
        let own = std::process::id() as i32;
        epoll.add(&second, IN | EDGE, 2);
        cx.arrive(own);
        cx.wait_go();
        check_eq!(epoll.take(), NOTHING, "the child before");
        sys::kill(own, libc::SIGUSR1);
        check_eq!(epoll.take(), NOTHING, "the child's signal, the parent's item");
        sys::kill(own, libc::SIGUSR2);
        check_eq!(epoll.take(), [(2, IN)], "the child's signal and item");
    });
    cx.await_arrival(child);

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(epoll.take(), NOTHING, "the parent before");
    sys::kill(own, libc::SIGUSR2);
    check_eq!(epoll.take(), NOTHING, "the parent's signal, the item of one that has ended");
    sys::kill(own, libc::SIGHUP);
    check_eq!(epoll.take(), NOTHING, "the one that has fired");
    sys::kill(own, libc::SIGUSR1);
    check_eq!(epoll.take(), [(1, IN)], "the parent's signal and item");
    check_eq!(epoll.modify(&fired, IN | ONCE, 4), Ok(()), "arming");
    check_eq!(epoll.take(), [(4, IN)], "armed");
    [&first, &second, &fired].into_iter().for_each(take_signal);
}
