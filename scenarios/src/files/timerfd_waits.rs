//! A read of a timerfd that waits for it to expire.
//!
//! Verified: that it returns, with one expiration, about when it should.
//! CRIU: works.

use std::time::{Duration, Instant};

use rustix::io::read;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const TIME: Duration = Duration::from_millis(700);

fn run(cx: &mut Context) {
    let timer =
        timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty()).expect("timerfd_create");
    let value = Timespec { tv_sec: 0, tv_nsec: TIME.as_nanos() as i64 };
    let time = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &time).expect("timerfd_settime");
    let began = Instant::now();
    let (thread, tid) = cx.thread(move |cx| {
        cx.arrive(crate::sys::gettid());
        let mut count = [0; 8];
        let result = read(&timer, &mut count);
        (result, u64::from_ne_bytes(count), began.elapsed())
    });
    cx.await_blocked(tid, libc::SYS_read);

    let frozen = cx.ready_and_wait();

    let (result, count, took) = thread.join().expect("the reader");
    check_eq!(result, Ok(8), "result of the read");
    check_eq!(count, 1, "expirations");
    check!(took >= TIME, "it expired after {took:?}");
    let late = took.saturating_sub(TIME + frozen);
    check!(late < Duration::from_secs(2), "it expired {late:?} late");
}
