//! The three interval timers of a process.
//!
//! - Kernel object: `signal_struct.{real_timer, it[2]}`
//! - Truth from: `getitimer(2)` asked of the process itself
//! - Image: `core-PID.img`, `tc.timers.{real,virt,prof}`
//! - Not preserved: nothing; `alarm(2)` is `ITIMER_REAL`. A periodic one that has expired has no time
//!   left until its signal is taken: `posixtimer_rearm_itimer` in `kernel/time/itimer.c`. One of the
//!   others that is stopped may have an interval all the same
//! - Scenarios: `timers::{interval, interval_expired}`

use std::time::Duration;

use dormouse_image::proto::core::CoreEntry;
use dormouse_image::proto::timer::ItimerEntry;
use dormouse_puppet::{Batch, OutSlot, Replies};

use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// Interval and time left of `ITIMER_REAL`, `ITIMER_VIRTUAL` and
/// `ITIMER_PROF`, as `struct itimerval` has them: seconds and microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalTimers([Itimer; 3]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Itimer {
    interval: (u64, u64),
    left: (u64, u64),
}

const ITIMERVAL: usize = 32;
const MICROSECONDS: u64 = 1_000_000;

impl IntervalTimers {
    /// Redeems what was asked.
    #[must_use]
    pub fn read(replies: &Replies, asked: [OutSlot; 3]) -> Self {
        Self(asked.map(|slot| {
            let bytes: &[u8; ITIMERVAL] = replies.array(&slot);
            let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at * 8 + i]));
            Itimer { interval: (word(0), word(1)), left: (word(2), word(3)) }
        }))
    }

    /// How long it takes until one of them expires, if one runs.
    #[must_use]
    pub fn soonest(&self) -> Option<Duration> {
        let left = self.0.iter().map(|timer| timer.left).filter(|&left| left != (0, 0));
        let (seconds, micros) = left.min()?;
        Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
    }
}

impl Property for IntervalTimers {
    const NAME: &'static str = "interval timers";
    type Asked = [OutSlot; 3];

    fn ask(batch: &mut Batch) -> Self::Asked {
        [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF].map(|which| {
            let value = batch.out(ITIMERVAL);
            batch.call(libc::SYS_getitimer, [which.into(), (&value).into()]);
            value
        })
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self::read(replies, asked))
    }

    fn encode(&self, core: &mut CoreEntry) {
        let Self([real, virt, prof]) = *self;
        let entry = |Itimer { interval, left }| ItimerEntry {
            isec: interval.0,
            iusec: interval.1,
            vsec: left.0,
            vusec: left.1,
        };
        let timers = core.tc.get_or_insert_default().timers.get_or_insert_default();
        (timers.real, timers.virt, timers.prof) = (entry(real), entry(virt), entry(prof));
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let idle = Itimer { interval: (0, 0), left: (0, 0) };
        let Some(timers) = core.tc.as_ref().and_then(|tc| tc.timers.as_ref()) else {
            return Ok(Self([idle; 3]));
        };
        let read = |entry: &ItimerEntry| {
            if entry.iusec >= MICROSECONDS || entry.vusec >= MICROSECONDS {
                return Err(corrupt_core(Self::NAME, "microseconds of more than a second"));
            }
            Ok(Itimer { interval: (entry.isec, entry.iusec), left: (entry.vsec, entry.vusec) })
        };
        Ok(Self([read(&timers.real)?, read(&timers.virt)?, read(&timers.prof)?]))
    }

    fn apply(&self, batch: &mut Batch) {
        let which = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];
        for (which, Itimer { interval, left }) in which.into_iter().zip(self.0) {
            let Some(left) = first(which, interval, left) else { continue };
            let words = [interval.0, interval.1, left.0, left.1].map(u64::to_ne_bytes);
            let value = batch.data(words.as_flattened());
            batch.call(libc::SYS_setitimer, [which.into(), value.into(), 0.into()]);
        }
    }
}

/// When a timer is to expire first so that it has so much left; `None` if it is as new.
fn first(which: libc::c_int, interval: (u64, u64), left: (u64, u64)) -> Option<(u64, u64)> {
    match (left, interval) {
        ((0, 0), (0, 0)) => None,
        // It has expired and goes on when its signal is taken: this long after it was set, it
        // is in the same state again.
        ((0, 0), _) if which == libc::ITIMER_REAL => Some((0, 1)),
        // The others keep the interval that they were stopped with: `set_cpu_itimer` in
        // `kernel/time/itimer.c`.
        _ => Some(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_is_not_set_going() {
        let (none, interval) = ((0, 0), (1, 0));
        assert_eq!(first(libc::ITIMER_REAL, interval, none), Some((0, 1)));
        for which in [libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
            assert_eq!(first(which, interval, none), Some(none));
            assert_eq!(first(which, interval, (2, 3)), Some((2, 3)));
            assert_eq!(first(which, none, none), None);
        }
    }
}
