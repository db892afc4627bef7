//! A timerfd that a change of the clock has cancelled, which the program has not seen yet.
//!
//! The clock is set to what it is, which moves it by a microsecond or so; that cancels timers of other
//! programs as well, so it takes leave.
//!
//! Verified: the dump is refused, naming process, descriptor and kind; the target goes on, and sees it.
//! CRIU: the timer expires instead.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use rustix::io::{Errno, read};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    clock_settime, timerfd_create, timerfd_settime,
};

use super::at_42;
use crate::facts::Users;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).refused("timerfd").missing(|| {
        let may = std::env::var_os("DORMOUSE_SET_CLOCK").is_some();
        (!may).then(|| "it sets the clock: DORMOUSE_SET_CLOCK=1 lets it".into())
    });

fn set_clock() -> Result<(), Errno> {
    clock_settime(ClockId::Realtime, clock_gettime(ClockId::Realtime))
}

fn run(cx: &mut Context) {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK).expect("a timer");
    let far = Timespec { tv_sec: 1 << 40, tv_nsec: 0 };
    let never = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: far };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(&timer, flags, &never).expect("timerfd_settime");
    at_42(timer.into_raw_fd());
    // SAFETY: it was put there.
    let timer = unsafe { OwnedFd::from_raw_fd(42) };
    set_clock().expect("clock_settime");
    cx.ready_and_wait();
    check_eq!(read(&timer, &mut [0; 8]), Err(Errno::CANCELED), "reading");
}
