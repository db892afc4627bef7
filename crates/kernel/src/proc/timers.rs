//! `/proc/PID/timers`.

use super::scan::{ParseError, Scan};
use crate::HostPid;
use crate::signal::Signal;

/// How a POSIX timer tells that it has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerNotify {
    /// `SIGEV_NONE`: not at all.
    None,
    /// `SIGEV_SIGNAL`, or with `tid` `SIGEV_THREAD_ID`.
    Signal {
        /// Which signal.
        signal: Signal,
        /// To one thread only. `None` also if that has ended.
        tid: Option<HostPid>,
    },
    /// `SIGEV_THREAD`, which the C library translates: not seen in the kernel
    /// unless a program asks for it, and a signal to the process then.
    Thread {
        /// Which signal.
        signal: Signal,
    },
}

/// A POSIX timer (`show_timer` in `fs/proc/base.c`). When it expires is not
/// told here; the task itself can ask with `timer_gettime(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosixTimer {
    /// Its number, unique within the process.
    pub id: i32,
    /// How it tells.
    pub notify: TimerNotify,
    /// `sigval`, handed out with the signal.
    pub value: u64,
    /// `CLOCK_*`; negative for the processor time of a task.
    pub clock: i32,
}

/// All timers of a process, the newest first.
pub(super) fn parse_timers(bytes: &[u8]) -> Result<Vec<PosixTimer>, ParseError> {
    let mut scan = Scan::new(bytes);
    let scan = &mut scan;
    let mut timers = Vec::new();
    while !scan.is_empty() {
        scan.label("ID:")?;
        let id = scan.signed("a timer")?;
        scan.end_line();
        scan.label("signal:")?;
        let signal = Signal::from_raw(scan.signed("a signal")?);
        scan.expect("/")?;
        let value = scan.hex("a value")?;
        scan.end_line();
        scan.label("notify:")?;
        let method = scan.until(b'/');
        let to_thread = scan.until(b'.') == b"tid";
        let target: i32 = scan.signed("a pid")?;
        scan.end_line();
        scan.label("ClockID:")?;
        let clock = scan.signed("a clock")?;
        scan.end_line();
        let notify = match (method, signal) {
            (b"none", _) => TimerNotify::None,
            (b"signal", Some(signal)) => {
                let tid = if to_thread { HostPid::from_raw(target) } else { None };
                TimerNotify::Signal { signal, tid }
            }
            (b"thread", Some(signal)) => TimerNotify::Thread { signal },
            _ => return scan.error("none, signal or thread"),
        };
        timers.push(PosixTimer { id, notify, value, clock });
    }
    Ok(timers)
}

#[cfg(test)]
mod tests {
    use super::{PosixTimer, TimerNotify, parse_timers};
    use crate::HostPid;
    use crate::signal::Signal;

    #[test]
    fn timers_of_all_kinds() {
        let timers = parse_timers(
            b"ID: 2\nsignal: 10/0000000000000000\nnotify: signal/tid.16278\nClockID: 1\n\
              ID: 1\nsignal: 34/0000000000001234\nnotify: none/pid.16278\nClockID: 0\n\
              ID: 0\nsignal: 34/ffff000000001234\nnotify: signal/pid.16278\nClockID: -6\n",
        )
        .unwrap();
        let to_thread = TimerNotify::Signal { signal: Signal::USR1, tid: HostPid::from_raw(16278) };
        let plain = TimerNotify::Signal { signal: Signal::from_raw(34).unwrap(), tid: None };
        assert_eq!(
            timers,
            [
                PosixTimer { id: 2, notify: to_thread, value: 0, clock: 1 },
                PosixTimer { id: 1, notify: TimerNotify::None, value: 0x1234, clock: 0 },
                PosixTimer { id: 0, notify: plain, value: 0xffff_0000_0000_1234, clock: -6 },
            ]
        );
        assert!(parse_timers(b"").unwrap().is_empty());
        assert!(parse_timers(b"ID: 2\n").is_err());
    }
}
