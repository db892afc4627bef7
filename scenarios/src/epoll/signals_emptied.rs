//! Items on signalfds whose mask the program has emptied since: one-shots that were reported, by a live
//! key, by a process that has ended, and one that was not; and one that waits for edges.
//!
//! Verified: none reports anything; once the files have masks again, those that have not fired report
//! what comes, and the others when they are armed.
//! CRIU: arms what has fired for hang-ups and errors.

use std::os::fd::{AsRawFd, OwnedFd};

use super::watch::{EDGE, Epoll, IN, NOTHING, ONCE, at, plant, signalfd, take_signal};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn set_mask(file: &OwnedFd, signals: &[i32]) {
    let mask = sys::sigset(signals);
    // SAFETY: the mask lives over the call and has the eight bytes stated.
    let set =
        unsafe { libc::syscall(libc::SYS_signalfd4, file.as_raw_fd(), &raw const mask, 8usize, 0) };
    check_eq!(set, i64::from(file.as_raw_fd()), "signalfd");
}

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let own = std::process::id() as i32;
    let files = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP, libc::SIGCONT].map(signalfd);
    let [fired, of_child, armed, edge] = &files;
    epoll.add(fired, IN | ONCE, 1);
    sys::kill(own, libc::SIGUSR1);
    check_eq!(epoll.take(), [(1, IN)], "before");
    take_signal(fired);
    let child = cx.fork(|_| {
        plant(of_child, 50);
        epoll.add(at(50), IN | ONCE, 2);
        sys::kill(sys::gettid(), libc::SIGUSR2);
        check_eq!(epoll.take(), [(2, IN)], "before, in the child");
    });
    cx.reap(child);
    epoll.add(armed, IN | ONCE, 3);
    epoll.add(edge, IN | EDGE, 4);
    // No signalfd is for this one.
    set_mask(fired, &[libc::SIGSTOP]);
    [of_child, armed, edge].into_iter().for_each(|file| set_mask(file, &[]));

    cx.ready_and_wait();

    let signals = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP, libc::SIGCONT];
    signals.into_iter().for_each(|signal| sys::kill(own, signal));
    check_eq!(epoll.take(), NOTHING, "without masks");
    for (file, signal) in files.iter().zip(signals) {
        set_mask(file, &[signal]);
        take_signal(file);
    }
    check_eq!(epoll.take(), NOTHING, "without signals");
    signals.into_iter().for_each(|signal| sys::kill(own, signal));
    let mut reported = epoll.take();
    reported.sort_unstable();
    check_eq!(reported, [(3, IN), (4, IN)], "with masks and signals");
    check_eq!(epoll.modify(fired, IN | ONCE, 11), Ok(()), "arming");
    check_eq!(epoll.take(), [(11, IN)], "armed");
}
