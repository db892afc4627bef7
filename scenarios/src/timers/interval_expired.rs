//! A periodic timer whose signal waits to be taken: until then it stands still.
//!
//! Verified: the interval; once the signal is taken, it goes on.
//! CRIU: works.

use std::time::Duration;

use crate::context::until;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let interval = Duration::from_millis(20);
    let set = sys::sigset(&[libc::SIGALRM]);
    sys::block(set);
    sys::set_itimer(libc::ITIMER_REAL, interval, interval);
    until_pending(set);

    cx.ready_and_wait();

    check_eq!(sys::itimer(libc::ITIMER_REAL).1, interval, "interval");
    for _ in 0..3 {
        until_pending(set);
        check!(sys::take_signal(set).is_some(), "its signal");
    }
}

fn until_pending(set: u64) {
    until("SIGALRM", || sys::pending() & set == set);
}
