//! Eventfds whose count needs more than 32 bits, up to the largest, where writing blocks.
//!
//! Verified: the counts, and that one more is refused while it is full.
//! CRIU: keeps the lower 32 bits only, as `eventfd2` takes no more.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};
use std::os::fd::OwnedFd;

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const COUNTS: [u64; 3] = [1 << 32, 0x1234_5678_9abc_def0, u64::MAX - 1];

fn run(cx: &mut Context) {
    let new = |count| -> OwnedFd {
        let fd = eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd");
        check_eq!(write(&fd, &u64::to_ne_bytes(count)), Ok(8), "setting a count");
        fd
    };
    let fds = COUNTS.map(new);

    cx.ready_and_wait();

    check_eq!(write(&fds[2], &u64::to_ne_bytes(1)), Err(Errno::AGAIN), "adding to the full one");
    for (fd, count) in fds.iter().zip(COUNTS) {
        let mut value = [0; 8];
        check_eq!(read(fd, &mut value), Ok(8), "reading");
        check_eq!(u64::from_ne_bytes(value), count, "count");
    }
}
