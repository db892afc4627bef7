//! Two filters, of which the second is to log.
//!
//! Verified: each still has its effect, and their number is what it was.
//! CRIU: works.

use super::status;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    sys::no_new_privs();
    for (flags, call, errno) in [(0, libc::SYS_getppid, 71), (sys::LOG, libc::SYS_getpgrp, 72)] {
        check!(sys::deny(flags, &[call], sys::error(errno)).is_ok(), "installing a filter");
    }
    let before = status();

    cx.ready_and_wait();

    check_eq!(status(), before, "status");
    check_eq!(sys::bare_call(libc::SYS_getppid), Err(71), "what the first filter denies");
    check_eq!(sys::bare_call(libc::SYS_getpgrp), Err(72), "what the second filter denies");
    check!(sys::bare_call(libc::SYS_getuid).is_ok(), "what no filter denies");
}
