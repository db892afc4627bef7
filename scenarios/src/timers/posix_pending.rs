//! The signal of a timer that waits to be taken.
//!
//! Verified: it is there once, with its code and value; a timer that has expired for good does not
//! run again.
//! CRIU: works.

use std::time::Duration;

use crate::sys::Ask;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

fn run(cx: &mut Context) {
    let signal = 45;
    let set = sys::sigset(&[signal]);
    sys::block(set);
    let (notify, clock) = (libc::SIGEV_SIGNAL, libc::CLOCK_MONOTONIC);
    let mut ids = Vec::new();
    for value in [11, 22] {
        let id = sys::timer_create(&Ask { clock, notify, signal, tid: 0, value });
        let id = id.expect("timer_create");
        sys::timer_start(id, Duration::from_micros(1), Duration::ZERO);
        // They expire in order.
        sys::nap(Duration::from_millis(2));
        ids.push(id);
    }

    cx.ready_and_wait();

    for value in [11, 22] {
        let found = sys::take_signal(set).map(|info| (info.code, info.value));
        check_eq!(found, Some((libc::SI_TIMER, value)), "signal of a timer");
    }
    check_eq!(sys::take_signal(set), None, "one more");
    for id in ids {
        let (left, _) = sys::timer_left(id).expect("the timer is there");
        check_eq!(left, Duration::ZERO, "time left of timer {id}");
    }
}
