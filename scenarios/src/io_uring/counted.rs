//! Eventfds that are registered to count completions: all of them, or only those of requests that did
//! not complete at once; in rings that one task submits to as well, with a request that waits.
//!
//! Verified: what was counted before, and what is from then on.
//! CRIU: refuses.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

use crate::sys::io_uring::{
    Completion, POLL_ADD, REGISTER_EVENTFD, REGISTER_EVENTFD_ASYNC, Request, Ring, SINGLE_ISSUER,
};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).faults().missing(super::missing);

struct Counted {
    ring: Ring,
    counter: OwnedFd,
    event: OwnedFd,
    counts_all: bool,
}

impl Counted {
    fn new((flags, counts_all): (u32, bool)) -> Self {
        let ring = Ring::setup(8, 0, flags).expect("io_uring_setup");
        let counter = eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd");
        let event = eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd");
        let how = if counts_all { REGISTER_EVENTFD } else { REGISTER_EVENTFD_ASYNC };
        let registered = ring.register(how, &[counter.as_raw_fd()], 1);
        check_eq!(registered.ok(), Some(0), "the eventfd is registered");
        (0..3).for_each(|data| ring.round(data));
        ring.push(&Request {
            operation: POLL_ADD,
            operation_flags: libc::POLLIN as u32,
            fd: event.as_raw_fd(),
            data: 7,
            ..Request::default()
        });
        check_eq!(ring.enter(1, 0).ok(), Some(1), "requests taken");
        Self { ring, counter, event, counts_all }
    }

    /// So many were counted, if it counts all.
    #[track_caller]
    fn counted(&self, count: u64) {
        let mut bytes = [0; 8];
        let expected = if self.counts_all { Ok(count) } else { Err(Errno::AGAIN) };
        let found = read(&self.counter, &mut bytes[..]).map(|_| u64::from_ne_bytes(bytes));
        check_eq!(found, expected, "completions that were counted");
    }

    fn verify(self) {
        self.counted(3);
        self.counted_none();
        self.ring.round(8);
        self.counted(1);
        check_eq!(write(&self.event, &1_u64.to_ne_bytes()), Ok(8), "write");
        check_eq!(self.ring.enter(0, 1).ok(), Some(0), "the wait");
        let expected = Completion { data: 7, result: libc::POLLIN.into(), flags: 0 };
        check_eq!(self.ring.next(), Some(expected), "completion");
        self.counted(1);
        self.counted_none();
    }

    #[track_caller]
    fn counted_none(&self) {
        let found = read(&self.counter, &mut [0; 8][..]).err();
        check_eq!(found, Some(Errno::AGAIN), "nothing is counted");
    }
}

fn run(cx: &mut Context) {
    let all = [(0, true), (SINGLE_ISSUER, true), (0, false)].map(Counted::new);

    cx.ready_and_wait();

    all.into_iter().for_each(Counted::verify);
}
