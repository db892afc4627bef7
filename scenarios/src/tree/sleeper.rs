//! One process with one thread that sleeps: the least there is to bring back.
//!
//! Verified: pid, tid, session, group and parent's absence of change.
//! CRIU: works.

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    let pid = std::process::id() as i32;
    cx.ready_and_wait();
    check_eq!(std::process::id() as i32, pid, "getpid()");
    check_eq!(sys::gettid(), pid, "gettid()");
    check_eq!(
        rustix::process::getsid(None).map(|p| p.as_raw_nonzero().get()),
        Ok(pid),
        "getsid(0)"
    );
    check_eq!(rustix::process::getpgrp().as_raw_nonzero().get(), pid, "getpgrp()");
}
