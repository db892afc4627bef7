//! `alarm(2)`, which comes due after the checkpoint.
//!
//! Verified: it does come, once, and not before its time of running has passed.
//! CRIU: works.

use std::time::{Duration, Instant};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).differs(&[("*Pnd", "timers expire")]);

const LEFT: Duration = Duration::from_millis(400);

fn run(cx: &mut Context) {
    let set = sys::sigset(&[libc::SIGALRM]);
    sys::block(set);
    let began = Instant::now();
    // As alarm(1), whose second would be long.
    sys::set_itimer(libc::ITIMER_REAL, LEFT, Duration::ZERO);
    let held = cx.ready_and_wait();
    while sys::pending() & set == 0 && began.elapsed() < LEFT * 50 {
        sys::nap(Duration::from_millis(1));
    }
    let signal = sys::take_signal(set);
    check_eq!(signal.map(|info| info.code), Some(libc::SI_KERNEL), "the alarm");
    let ran = began.elapsed();
    check!(ran >= LEFT, "it came after {ran:?}, of which the tree was held {held:?}");
    check_eq!(sys::take_signal(set), None, "a second alarm");
    check_eq!(sys::itimer(libc::ITIMER_REAL), (Duration::ZERO, Duration::ZERO), "what is left");
}
