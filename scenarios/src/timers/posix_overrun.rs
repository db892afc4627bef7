//! Overruns: a timer has expired several times before its signal was taken.
//!
//! Verified: `timer_getoverrun` tells what it told before; the timer goes on.
//! CRIU: keeps the number in its images and does not restore it.

use std::time::Duration;

use crate::sys::Ask;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).differs(&[("*Pnd", "timers expire")]);

const INTERVAL: Duration = Duration::from_millis(3);

fn run(cx: &mut Context) {
    let set = sys::sigset(&[libc::SIGUSR1]);
    sys::block(set);
    let ask = Ask {
        clock: libc::CLOCK_MONOTONIC,
        notify: libc::SIGEV_SIGNAL,
        signal: libc::SIGUSR1,
        tid: 0,
        value: 5,
    };
    let id = sys::timer_create(&ask).expect("timer_create");
    // It expires once more than is taken, and then waits.
    sys::timer_start(id, INTERVAL, INTERVAL);
    sys::nap(INTERVAL * 12);
    check!(sys::take_signal(set).is_some(), "no signal");
    let before = sys::timer_overrun(id);
    check!(before >= 5, "only {before} overruns");
    // From here on it expires, and its signal waits, which changes nothing of that.
    cx.ready_and_wait();

    let after = sys::timer_overrun(id);
    check!((before..before + 200).contains(&after), "{before} overruns before, {after} after");
    check!(sys::take_signal(set).is_some(), "the timer does not go on");
}
