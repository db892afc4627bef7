//! A ring that a child has inherited, descriptor and mappings.
//!
//! Verified: what one submits the other sees complete, and the other way round.
//! CRIU: refuses.

use std::os::unix::net::UnixStream;

use crate::sys::io_uring::Ring;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).faults().missing(super::missing);

fn run(cx: &mut Context) {
    let ring = Ring::setup(4, 0, 0).expect("io_uring_setup");
    (0..9).for_each(|data| ring.round(data));
    let (here, there) = UnixStream::pair().expect("socketpair");
    let child = cx.fork(|cx| {
        (9..12).for_each(|data| ring.round(data));
        cx.arrive(sys::gettid());
        cx.wait_go();
        std::io::Read::read_exact(&mut &there, &mut [0]).expect("read");
        check_eq!(ring.counts()[..4], [13, 13, 13, 13], "heads and tails");
        (13..40).for_each(|data| ring.round(data));
    });
    cx.await_arrival(child);
    let places = ring.places();

    cx.ready_and_wait();

    check_eq!(ring.places(), places, "where it is mapped");
    check_eq!(ring.counts()[..4], [12, 12, 12, 12], "heads and tails");
    ring.round(12);
    std::io::Write::write_all(&mut &here, b"x").expect("write");
    cx.reap(child);
    check_eq!(ring.counts()[..4], [40, 40, 40, 40], "heads and tails");
}
