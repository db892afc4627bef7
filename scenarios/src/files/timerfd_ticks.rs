//! Timerfds that have expired, once and many times, with nobody reading them.
//!
//! Verified: how often they tell to have expired, and that they go on or stay quiet afterwards.
//! CRIU: stops a periodic timer that has expired and was not asked since.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::sys::nap;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run)
    .differs(&[("*/fd/*/info", "a periodic timer counts what it has missed when it is asked")]);

const PERIOD: Duration = Duration::from_millis(20);

fn timer(interval: Duration) -> OwnedFd {
    let timespec = |time: Duration| Timespec { tv_sec: 0, tv_nsec: time.as_nanos() as i64 };
    let timer =
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).expect("timerfd_create");
    let time = Itimerspec { it_interval: timespec(interval), it_value: timespec(PERIOD) };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &time).expect("timerfd_settime");
    timer
}

fn ticks(timer: &OwnedFd) -> Result<u64, Errno> {
    let mut count = [0; 8];
    read(timer, &mut count).map(|_| u64::from_ne_bytes(count))
}

fn run(cx: &mut Context) {
    let began = Instant::now();
    let (once, periodic) = (timer(Duration::ZERO), timer(PERIOD));
    nap(5 * PERIOD);
    let least = 4;

    cx.ready_and_wait();

    check_eq!(ticks(&once), Ok(1), "expirations of a single timer");
    check_eq!(ticks(&once), Err(Errno::AGAIN), "expirations of a single timer, once read");
    let most = began.elapsed().as_nanos() / PERIOD.as_nanos();
    let found = ticks(&periodic);
    let plausible = found.is_ok_and(|found| (least..=most as u64).contains(&found));
    check!(plausible, "{found:?} expirations, {least} to {most} there can be");
    nap(3 * PERIOD);
    check!(ticks(&periodic).is_ok(), "a periodic timer goes on");
}
