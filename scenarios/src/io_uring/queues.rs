//! Rings as far as they were used: fresh, with completions unread and requests not submitted, round and round, with more
//! requests than completions and the other way, with a queue of completions that is full.
//!
//! Verified: where each is mapped, heads and tails, requests and completions in their order, and
//! requests made after.
//! CRIU: refuses.

use std::os::fd::AsRawFd;

use crate::sys::io_uring::{Completion, MSG_RING, NOP, Request, Ring, SKIP};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).faults().missing(super::missing);

struct Used {
    ring: Ring,
    counts: [u32; 6],
    places: [usize; 2],
    unread: Vec<u64>,
    waiting: Vec<u64>,
}

fn nop(data: u64) -> Request {
    Request { operation: NOP, data, ..Request::default() }
}

impl Used {
    /// `done` requests have gone through it; the last `unread` completions are to be read, and
    /// `waiting` requests to be submitted.
    fn new(ring: Ring, done: u64, unread: u64, waiting: u64) -> Self {
        for data in 0..done - unread {
            ring.round(data);
        }
        for data in done - unread..done {
            ring.push(&nop(data));
            check_eq!(ring.enter(1, 0).ok(), Some(1), "requests taken");
        }
        for data in 0..waiting {
            ring.push(&nop(1000 + data));
        }
        let (counts, places) = (ring.counts(), ring.places());
        let (unread, waiting) = (done - unread..done, 1000..1000 + waiting);
        Self { ring, counts, places, unread: unread.collect(), waiting: waiting.collect() }
    }

    fn verify(&self) {
        let Self { ring, counts, places, unread, waiting } = self;
        check_eq!(ring.counts(), *counts, "heads and tails");
        check_eq!(ring.places(), *places, "where it is mapped");
        let next = || ring.next().map(|it| (it.data, it.result, it.flags));
        for &data in unread {
            check_eq!(next(), Some((data, 0, 0)), "a completion that was not read");
        }
        check_eq!(next(), None, "one more");
        let count = waiting.len() as u32;
        check_eq!(ring.enter(count, 0).ok(), Some(count.into()), "requests that waited");
        for &data in waiting {
            check_eq!(next(), Some((data, 0, 0)), "the completion of a request that waited");
        }
        // Round again, whatever its size is.
        for data in 0..200 {
            ring.round(data);
        }
    }
}

fn ring(requests: u32, completions: u32) -> Ring {
    Ring::setup(requests, completions, 0).expect("io_uring_setup")
}

/// Many requests without completions.
fn silent() -> Used {
    let ring = ring(4, 0);
    for _ in 0..77 {
        ring.push(&Request { flags: SKIP, ..nop(0) });
        check_eq!(ring.enter(1, 0).ok(), Some(1), "requests taken");
    }
    check_eq!(ring.next(), None, "a completion that was not asked for");
    Used::new(ring, 2, 2, 1)
}

/// More completions than requests: another ring sends some.
fn loud(sender: &Ring) -> Used {
    let ring = ring(4, 64);
    for data in 0..300 {
        let (fd, len) = (ring.fd().as_raw_fd(), 7);
        let sent = Request { operation: MSG_RING, fd, len, offset: data, ..nop(0) };
        sender.push(&Request { flags: SKIP, ..sent });
        check_eq!(sender.enter(1, 0).ok(), Some(1), "requests taken");
        let expected = Completion { data, result: 7, flags: 0 };
        check_eq!(ring.next(), Some(expected), "a completion that was sent");
    }
    Used::new(ring, 3, 3, 4)
}

fn run(cx: &mut Context) {
    let sender = ring(1, 0);
    let all = [
        Used::new(ring(1, 0), 0, 0, 0),
        Used::new(ring(1, 0), 1, 1, 1),
        Used::new(ring(8, 0), 100, 5, 3),
        Used::new(ring(8, 8), 800, 8, 8),
        Used::new(ring(4, 128), 1000, 128, 0),
        Used::new(ring(4096, 0), 5000, 4, 10),
        silent(),
        loud(&sender),
        Used::new(sender, 3, 1, 0),
    ];

    cx.ready_and_wait();

    all.iter().for_each(Used::verify);
}
