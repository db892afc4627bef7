//! An io_uring that a thread has registered: another name for it than a descriptor.
//!
//! Verified: the dump is refused, naming process and kind; the name leads to the ring.
//! CRIU: refuses.

use std::os::fd::AsRawFd;

use crate::io_uring::missing;
use crate::sys::io_uring::{REGISTER_RING_FDS, Ring};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused_task("io_uring").missing(missing);

fn run(cx: &mut Context) {
    let ring = Ring::setup(4, 0, 0).expect("io_uring_setup");
    // `struct io_uring_rsrc_update`: its place and its descriptor.
    let name = [9_u32, 0, ring.fd().as_raw_fd().cast_unsigned(), 0];
    check_eq!(ring.register(REGISTER_RING_FDS, &name, 1).ok(), Some(1), "names registered");

    cx.ready_and_wait();

    check_eq!(ring.enter_named(9).ok(), Some(0), "a call by that name");
    ring.round(1);
}
