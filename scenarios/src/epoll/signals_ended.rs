//! Items on signalfds that were added by a child which has ended: they wait for nobody's signals, and report
//! those of whoever looks. One is about to be looked at, one was, one is a one-shot that has fired, one has
//! a stale key, and an exclusive one is about to be looked at; beside one that another child has added,
//! which lives, and one of the parent's own; and an edge on an eventfd that was reported.
//!
//! Verified: a signal of the parent reports what is about to be looked at and its own item; what has been
//! looked at is silent until it is armed again, by its key; the living child's item hears the child.
//! CRIU: makes all wait for the signals of a process that has the epoll.

use super::watch::{
    EDGE, EXCLUSIVE, Epoll, IN, NOTHING, ONCE, at, event, plant, signalfd, take_signal,
};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn run(cx: &mut Context) {
    let [epoll, looked] = [Epoll::new(), Epoll::new()];
    let own = std::process::id() as i32;
    let [file, other, childs] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP].map(signalfd);
    let told = event(1);
    epoll.add(&told, IN | EDGE, 9);
    check_eq!(epoll.take(), [(9, IN)], "an edge that is no signal");
    let ended = cx.fork(|_| {
        let own = std::process::id() as i32;
        looked.add(&file, IN | EDGE, 1);
        plant(&file, 50);
        looked.add(at(50), IN, 2);
        looked.add(&other, IN | ONCE, 3);
        sys::kill(own, libc::SIGUSR2);
        check_eq!(looked.take(), [(3, IN)], "the one that fires");
        epoll.add(&file, IN | EDGE, 4);
        epoll.add(&other, IN | EXCLUSIVE, 5);
        epoll.add(at(50), IN | ONCE, 6);
    });
    cx.reap(ended);
    check_eq!(looked.take(), NOTHING, "what is left of the child");
    let child = cx.fork(|cx| {
        let own = std::process::id() as i32;
        looked.add(&childs, IN | EDGE, 8);
        cx.arrive(own);
        cx.wait_go();
        check_eq!(looked.take(), NOTHING, "the child before");
        sys::kill(own, libc::SIGHUP);
        check_eq!(looked.take(), [(8, IN)], "the child's signal");
    });
    cx.await_arrival(child);
    sys::kill(own, libc::SIGUSR1);
    sys::kill(own, libc::SIGUSR2);
    // After these signals, which would wake it.
    epoll.add(&childs, IN, 7);

    cx.ready_and_wait();

    cx.reap(child);
    check_eq!(looked.take(), NOTHING, "what was looked at before");
    let mut told = epoll.take();
    told.sort_unstable();
    check_eq!(told, [(4, IN), (5, IN), (6, IN)], "what was not");
    check_eq!(epoll.take(), [(5, IN)], "the one that is no edge");
    take_signal(&file);
    take_signal(&other);
    check_eq!(epoll.take(), NOTHING, "when no signal waits");
    for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP] {
        sys::kill(own, signal);
    }
    check_eq!(epoll.take(), [(7, IN)], "signals of who looks");
    check_eq!(looked.take(), NOTHING, "signals for items that wait for nobody's");
    check_eq!(looked.modify(&other, IN | ONCE, 13), Ok(()), "arming");
    plant(&file, 50);
    check_eq!(looked.modify(at(50), IN | EDGE, 12), Ok(()), "by a stale key");
    check_eq!(looked.take(), [(13, IN), (12, IN)], "armed");
    check_eq!(looked.delete(&file), Ok(()), "deleting");
    sys::close(50);
    [&file, &other, &childs].into_iter().for_each(take_signal);
}
