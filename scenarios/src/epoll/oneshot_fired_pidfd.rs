//! One-shots on pidfds of processes that are dead and waited for: one that was reported, one that is about
//! to be; and an edge that was reported.
//!
//! Verified: what was reported is not reported again; armed, it is.
//! CRIU: arms what has fired for hang-ups and errors, of which a pidfd reports one.

use super::watch::{EDGE, Epoll, HUP, IN, NOTHING, ONCE};
use crate::files::pidfd::pidfd_open;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(sys::no_thread_pidfds).dump_faults();

fn run(cx: &mut Context) {
    let epoll = Epoll::new();
    let child = cx.fork(|_| sys::exit(7));
    let fds = [0, 0, 0].map(|flags| pidfd_open(child, flags));
    check_eq!(sys::wait_status(child), Ok(7 << 8), "the end of the child");
    epoll.add(&fds[0], IN | ONCE, 0);
    epoll.add(&fds[1], IN | EDGE, 1);
    check_eq!(epoll.take(), [(0, IN | HUP), (1, IN | HUP)], "before");
    epoll.add(&fds[2], IN | ONCE, 2);

    cx.ready_and_wait();

    check_eq!(epoll.take(), [(2, IN | HUP)], "the one that has not fired");
    check_eq!(epoll.take(), NOTHING, "after that");
    check_eq!(epoll.modify(&fds[0], IN | ONCE, 10), Ok(()), "arming");
    check_eq!(epoll.take(), [(10, IN | HUP)], "armed");
}
