//! Interval and POSIX timers, by their raw calls.

use std::time::{Duration, Instant};
use std::{io, ptr};

use super::done;

/// What `timer_create(2)` is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    /// `CLOCK_*`, or a task's processor time.
    pub(crate) clock: i32,
    /// `SIGEV_*`.
    pub(crate) notify: i32,
    pub(crate) signal: i32,
    pub(crate) tid: i32,
    pub(crate) value: usize,
}

/// Makes a timer and gives its number in the kernel.
pub(crate) fn timer_create(ask: &Ask) -> io::Result<i32> {
    // SAFETY: all zeros is a `sigevent`.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = ask.notify;
    event.sigev_signo = ask.signal;
    event.sigev_notify_thread_id = ask.tid;
    event.sigev_value = libc::sigval { sival_ptr: ptr::without_provenance_mut(ask.value) };
    let mut id = -1_i32;
    // SAFETY: both live over the call; the kernel writes one `int`.
    done(unsafe { libc::syscall(libc::SYS_timer_create, ask.clock, &raw const event, &raw mut id) })
        .map(|_| id)
}

/// `timer_delete(2)`.
pub(crate) fn timer_delete(id: i32) {
    // SAFETY: a plain number.
    done(unsafe { libc::syscall(libc::SYS_timer_delete, id) }).expect("timer_delete");
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

fn duration(time: libc::timespec) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Starts a timer: `first` from now, and then every `interval` unless that is zero.
pub(crate) fn timer_start(id: i32, first: Duration, interval: Duration) {
    let spec = libc::itimerspec { it_interval: timespec(interval), it_value: timespec(first) };
    let none = ptr::null_mut::<libc::itimerspec>();
    // SAFETY: `spec` lives over the call.
    done(unsafe { libc::syscall(libc::SYS_timer_settime, id, 0, &raw const spec, none) })
        .expect("timer_settime");
}

/// (left, interval) of a timer.
pub(crate) fn timer_left(id: i32) -> io::Result<(Duration, Duration)> {
    // SAFETY: all zeros is an `itimerspec`.
    let mut spec: libc::itimerspec = unsafe { std::mem::zeroed() };
    // SAFETY: `spec` lives over the call.
    done(unsafe { libc::syscall(libc::SYS_timer_gettime, id, &raw mut spec) })?;
    Ok((duration(spec.it_value), duration(spec.it_interval)))
}

/// `timer_getoverrun(2)`.
pub(crate) fn timer_overrun(id: i32) -> i64 {
    // SAFETY: a plain number.
    done(unsafe { libc::syscall(libc::SYS_timer_getoverrun, id) }).expect("timer_getoverrun")
}

fn timeval(time: Duration) -> libc::timeval {
    libc::timeval { tv_sec: time.as_secs() as i64, tv_usec: time.subsec_micros().into() }
}

/// `setitimer(2)`.
pub(crate) fn set_itimer(which: libc::c_int, first: Duration, interval: Duration) {
    let value = libc::itimerval { it_interval: timeval(interval), it_value: timeval(first) };
    // SAFETY: `value` lives over the call.
    done(unsafe { libc::setitimer(which, &raw const value, ptr::null_mut()) }).expect("setitimer");
}

/// (left, interval) by `getitimer(2)`.
pub(crate) fn itimer(which: libc::c_int) -> (Duration, Duration) {
    // SAFETY: all zeros is an `itimerval`.
    let mut value: libc::itimerval = unsafe { std::mem::zeroed() };
    // SAFETY: `value` lives over the call.
    done(unsafe { libc::getitimer(which, &raw mut value) }).expect("getitimer");
    let duration =
        |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    (duration(value.it_value), duration(value.it_interval))
}

/// What a timer may have left of what it had at a point in time, if it stood still for as long as
/// the harness held the program.
pub(crate) struct Expected {
    began: Instant,
    left: Duration,
}

impl Expected {
    /// It has `left` now.
    pub(crate) fn now(left: Duration) -> Self {
        Self { began: Instant::now(), left }
    }

    /// Whether `left` is in order.
    ///
    /// How long the tree stood still is known to the harness only; so this is bounded from below
    /// by all the time that has passed.
    pub(crate) fn allows(&self, left: Duration) -> bool {
        // The kernel adds a tick when a timer on processor time is set (`set_cpu_itimer`).
        let slack = Duration::from_millis(100);
        left <= self.left + slack && left + self.began.elapsed() + slack >= self.left
    }
}
