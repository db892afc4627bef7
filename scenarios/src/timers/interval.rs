//! The three timers of `setitimer(2)`: real time, own time, own and the system's time.
//!
//! Verified: interval and time left of each; a timer that has expired for good has not come back.
//! CRIU: works.

use std::time::Duration;

use crate::sys::Expected;
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const TIMERS: [(libc::c_int, &str, u64); 3] = [
    (libc::ITIMER_REAL, "real", 4_000),
    (libc::ITIMER_VIRTUAL, "virtual", 5_000),
    (libc::ITIMER_PROF, "profiling", 6_000),
];

fn run(cx: &mut Context) {
    let expected = TIMERS.map(|(which, name, seconds)| {
        let (left, interval) = (Duration::from_secs(seconds), Duration::new(seconds * 2, 7_000));
        sys::set_itimer(which, left, interval);
        (which, name, Expected::now(left), interval)
    });

    cx.ready_and_wait();

    for (which, name, left, interval) in expected {
        let (found, period) = sys::itimer(which);
        check!(left.allows(found), "the {name} timer has {found:?} left");
        check_eq!(period, interval, "interval of the {name} timer");
    }
}
