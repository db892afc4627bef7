//! An eventfd in semaphore mode: each read takes one.
//!
//! Verified: as many reads of 1 as were posted, then none.
//! CRIU: forgets the mode, so the first read takes all.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let fd = eventfd(3, EventfdFlags::SEMAPHORE | EventfdFlags::NONBLOCK).expect("eventfd");

    cx.ready_and_wait();

    let take = || {
        let mut value = [0; 8];
        read(&fd, &mut value).map(|_| u64::from_ne_bytes(value))
    };
    check_eq!([take(), take(), take()], [Ok(1); 3], "what three reads took");
    check_eq!(take(), Err(Errno::AGAIN), "a fourth read");
    check_eq!(write(&fd, &u64::to_ne_bytes(2)), Ok(8), "posting two");
    check_eq!([take(), take()], [Ok(1); 2], "what two reads took");
}
