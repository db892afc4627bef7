//! Timerfds: once and periodic, relative and absolute, armed and not.
//!
//! Verified: time left, interval, status flags; that one by the wall clock keeps its moment.
//! CRIU: works, with the moments of wall clock timers put off by the time it took.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::fs::fcntl_getfl;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_gettime, timerfd_settime,
};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

fn seconds(tv_sec: i64) -> Timespec {
    Timespec { tv_sec, tv_nsec: 0 }
}

fn nanos(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

fn timer(clock: TimerfdClockId, flags: TimerfdTimerFlags, it_value: Timespec) -> OwnedFd {
    let timer = timerfd_create(clock, TimerfdFlags::NONBLOCK).expect("timerfd_create");
    let it_interval = seconds(77);
    timerfd_settime(&timer, flags, &Itimerspec { it_interval, it_value }).expect("timerfd_settime");
    timer
}

fn run(cx: &mut Context) {
    let (once, absolute) = (TimerfdTimerFlags::empty(), TimerfdTimerFlags::ABSTIME);
    let from_now = |clock, by: i64| {
        let now = clock_gettime(clock);
        Timespec { tv_sec: now.tv_sec + by, ..now }
    };
    let wall = from_now(ClockId::Realtime, 500);
    let steady = [
        timer(TimerfdClockId::Monotonic, once, seconds(100)),
        timer(TimerfdClockId::Boottime, once, seconds(200)),
        timer(TimerfdClockId::Realtime, once, seconds(300)),
        timer(TimerfdClockId::Monotonic, absolute, from_now(ClockId::Monotonic, 400)),
    ];
    let by_wall =
        timer(TimerfdClockId::Realtime, absolute.union(TimerfdTimerFlags::CANCEL_ON_SET), wall);
    let disarmed = timer(TimerfdClockId::Monotonic, once, ZERO);
    let left = |timer| nanos(timerfd_gettime(timer).expect("timerfd_gettime").it_value);
    let before: Vec<i128> = steady.iter().map(left).collect();
    let began = Instant::now();
    let flags = fcntl_getfl(&disarmed);

    cx.ready_and_wait();

    let ran = began.elapsed().as_nanos() as i128 + 1_000_000;
    for (timer, before) in steady.iter().zip(before) {
        let after = left(timer);
        check!((before - ran..=before).contains(&after), "{after} ns left of {before}");
        let interval = timerfd_gettime(timer).expect("timerfd_gettime").it_interval;
        check_eq!(interval, seconds(77), "interval");
    }
    let moment = left(&by_wall) + nanos(clock_gettime(ClockId::Realtime));
    check!((moment - nanos(wall)).abs() < 50_000_000, "off its moment by {}", moment - nanos(wall));
    check_eq!(left(&disarmed), 0, "time left of a timer that is not armed");
    check_eq!(fcntl_getfl(&disarmed), flags, "status flags");
}
