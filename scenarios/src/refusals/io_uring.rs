//! An io_uring with a request in flight that another is linked to.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on and both
//! requests complete.
//! CRIU: refuses.

use std::os::fd::AsRawFd;

use rustix::event::{EventfdFlags, eventfd};

use crate::io_uring::missing;
use crate::sys::io_uring::{Completion, LINK, NOP, POLL_ADD, Request, Ring};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("io_uring").missing(missing);

fn run(cx: &mut Context) {
    let event = eventfd(0, EventfdFlags::empty()).expect("eventfd");
    let ring = Ring::setup(4, 0, 0).expect("io_uring_setup").at(42);
    let (fd, operation_flags) = (event.as_raw_fd(), libc::POLLIN as u32);
    let poll = Request { operation: POLL_ADD, fd, operation_flags, data: 7, ..Request::default() };
    ring.push(&Request { flags: LINK, ..poll });
    ring.push(&Request { operation: NOP, data: 8, ..Request::default() });
    check_eq!(ring.enter(2, 0).ok(), Some(2), "requests taken");

    cx.ready_and_wait();

    check_eq!(ring.next(), None, "a completion before anything has happened");
    rustix::io::write(&event, &1_u64.to_ne_bytes()).expect("write");
    check_eq!(ring.enter(0, 2).ok(), Some(0), "the wait");
    for (data, result) in [(7, libc::POLLIN.into()), (8, 0)] {
        check_eq!(ring.next(), Some(Completion { data, result, flags: 0 }), "completion");
    }
}
