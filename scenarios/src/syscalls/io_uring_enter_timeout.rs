//! `io_uring_enter` that waits for a completion which does not come, with a timeout.
//!
//! Verified: it fails with `ETIME`, no earlier than asked and not as if begun anew.
//! CRIU: refuses.

use super::blocking::{WAIT, for_a_time};
use crate::io_uring::missing;
use crate::sys::io_uring::Ring;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(missing);

fn run(cx: &mut Context) {
    for_a_time(cx, libc::SYS_io_uring_enter, &Some(libc::ETIME), || {
        let ring = Ring::setup(4, 0, 0).expect("io_uring_setup");
        let failed = ring.enter_for(WAIT).err().and_then(|error| error.raw_os_error());
        // It is compared when the wait is over.
        std::mem::forget(ring);
        failed
    });
}
