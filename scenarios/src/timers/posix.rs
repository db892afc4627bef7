//! POSIX timers on every clock, with every way to tell.
//!
//! Verified: number, interval, time left, signal and value of each: `/proc/self/timers` says the
//! same as before.
//! CRIU: works.

use std::fs;
use std::time::Duration;

use crate::sys::{Ask, Expected};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const CLOCKS: [i32; 5] = [
    libc::CLOCK_REALTIME,
    libc::CLOCK_MONOTONIC,
    libc::CLOCK_BOOTTIME,
    libc::CLOCK_TAI,
    libc::CLOCK_PROCESS_CPUTIME_ID,
];
const NOTIFY: [i32; 3] = [libc::SIGEV_NONE, libc::SIGEV_SIGNAL, libc::SIGEV_THREAD_ID];

fn run(cx: &mut Context) {
    let mut timers = Vec::new();
    for (index, (clock, notify)) in
        CLOCKS.into_iter().flat_map(|clock| NOTIFY.map(|notify| (clock, notify))).enumerate()
    {
        let signal = if notify == libc::SIGEV_NONE { 0 } else { 40 + index as i32 };
        let value = usize::MAX - index;
        let tid = sys::gettid();
        let id = sys::timer_create(&Ask { clock, notify, signal, tid, value });
        let id = match id {
            Ok(id) => id,
            Err(error) => return check!(false, "timer on clock {clock}: {error}"),
        };
        let left = Duration::new(3_000 + index as u64, 123);
        let interval = Duration::new(index as u64 % 2 * 7_000, 0);
        // One of each clock is there, and does not run.
        if notify != libc::SIGEV_NONE || index % 2 == 0 {
            sys::timer_start(id, left, interval);
            timers.push((id, Expected::now(left), interval));
        } else {
            timers.push((id, Expected::now(Duration::ZERO), Duration::ZERO));
        }
    }
    let before = fs::read_to_string("/proc/self/timers").expect("own timers");

    cx.ready_and_wait();

    for (id, expected, interval) in timers {
        let (left, period) = sys::timer_left(id).expect("the timer is there");
        check!(expected.allows(left), "timer {id} has {left:?} left");
        check_eq!(period, interval, "interval of timer {id}");
    }
    check_eq!(fs::read_to_string("/proc/self/timers").expect("own timers"), before, "timers");
}
