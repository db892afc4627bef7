//! Timerfds.
//!
//! Kernel object: `struct timerfd_ctx`. It has one open file description.
//! Truth from: `/proc/PID/fdinfo` of a duplicate, after `timerfd_gettime(2)`:
//! a periodic timer that has expired counts no further until somebody asks it,
//! and shows no time left meanwhile.
//! Image: `timerfd_entry` in `files.img`. It holds the time left; the moment
//! of a timer that was set by the wall clock has fields of our own.
//! Create: `timerfd_create(2)`.
//! Fill: expirations that nobody has read, by `TFD_IOC_SET_TICKS`, before any
//! epoll watches the timer; the time last of all. Setting it forgets
//! expirations, so a periodic timer that has some is set before that.
//! Not preserved: the times of steady clocks go on from where they were at the
//! dump.
//! Refused: a timer that has been cancelled by a change of the clock
//! (`TFD_TIMER_CANCEL_ON_SET`) which the program has not seen yet: no call tells
//! (it is read from the kernel's `struct timerfd_ctx`), and none brings it about.
//! Kernel needed: 3.17, built for checkpoints, for `TFD_IOC_SET_TICKS`.
//! Scenarios: `files::timerfd_*`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::timerfd::TimerfdEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::proc::{Extra, ProcDir, TimerFd};
use dormouse_kernel::{FdNum, timerfd};
use epoll_interest::kernel_memory::{KernelMemory, OpenFiles};
use rustix::fs::OFlags;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_gettime, timerfd_settime,
};

use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// A timerfd.
#[derive(Debug, PartialEq, Eq)]
pub struct Timerfd {
    status: Status,
    clock: TimerfdClockId,
    /// Expirations nobody has read.
    ticks: u64,
    flags: TimerfdTimerFlags,
    /// Until the next expiration; zero when it is not armed.
    left: Timespec,
    /// The moment of that, by the wall clock, of a timer that was set so.
    moment: Option<Timespec>,
    interval: Timespec,
}

const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
const SECOND: i64 = 1_000_000_000;
/// How often a timer that expires all the time is looked at.
const ATTEMPTS: usize = 16;

fn timespec((seconds, nanoseconds): (u64, u32)) -> Timespec {
    // The kernel keeps them as 63 bits of nanoseconds.
    Timespec { tv_sec: seconds.cast_signed(), tv_nsec: nanoseconds.into() }
}

/// The clock with this number in images and in the kernel (`CLOCK_*`).
fn clock(number: u32) -> Option<TimerfdClockId> {
    [
        TimerfdClockId::Realtime,
        TimerfdClockId::Monotonic,
        TimerfdClockId::Boottime,
        TimerfdClockId::RealtimeAlarm,
        TimerfdClockId::BoottimeAlarm,
    ]
    .into_iter()
    .find(|clock| *clock as u32 == number)
}

/// The clock that an alarm goes by.
fn base(clock: TimerfdClockId) -> ClockId {
    match clock {
        TimerfdClockId::Monotonic => ClockId::Monotonic,
        TimerfdClockId::Boottime | TimerfdClockId::BoottimeAlarm => ClockId::Boottime,
        _ => ClockId::Realtime,
    }
}

fn sum(a: Timespec, b: Timespec) -> Timespec {
    let nanoseconds = a.tv_nsec + b.tv_nsec;
    Timespec {
        tv_sec: a.tv_sec.saturating_add(b.tv_sec).saturating_add(nanoseconds / SECOND),
        tv_nsec: nanoseconds % SECOND,
    }
}

/// What the timer shows, as far as it has counted.
fn look(probe: &Probe, timer: BorrowedFd<'_>) -> Result<TimerFd> {
    let number = FdNum::from_raw(timer.as_raw_fd().cast_unsigned());
    let proc = ProcDir::of_self()?;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        timerfd_gettime(timer).map_err(Error::kernel("timerfd_gettime", &probe.link))?;
        let Extra::Timerfd(seen) = proc.fdinfo(number)?.extra else { break };
        let has_expired_since = seen.value == (0, 0) && seen.interval != (0, 0) && seen.ticks > 0;
        if !has_expired_since {
            return Ok(seen);
        }
        // Due right now.
        last = Some(TimerFd { value: (0, 1), ..seen });
    }
    last.ok_or_else(|| Error::Unsupported {
        object: "a timerfd",
        detail: probe.link.clone().into(),
        reason: "this kernel does not tell how it is set",
        hint: "Linux 3.17 and later do",
    })
}

/// Whether a change of the clock has cancelled it. `None`: this system does not let that be looked
/// at.
fn is_cancelled(timer: BorrowedFd<'_>) -> Option<bool> {
    /// What it takes for the difference of the clocks then (`KTIME_MAX`).
    const CANCELLED: u64 = i64::MAX as u64;
    let (mut memory, (files, difference)) = KernelMemory::open(|btf| {
        Ok((OpenFiles::new(btf)?, btf.structure("timerfd_ctx")?.offset("moffs")?))
    })
    .ok()?;
    let context = files.private_data(&mut memory, &[timer]).ok()?[0];
    Some(memory.word(context + difference as u64).ok()? == CANCELLED)
}

impl Timerfd {
    fn is_by_wall_clock(&self) -> bool {
        let wall = matches!(self.clock, TimerfdClockId::Realtime | TimerfdClockId::RealtimeAlarm);
        wall && self.flags.contains(TimerfdTimerFlags::ABSTIME)
    }

    fn is_armed(&self) -> bool {
        self.left != ZERO
    }

    /// When its time is set. That forgets expirations, so where there are
    /// some, it cannot be the last step.
    fn rank(&self) -> FillRank {
        if self.is_armed() && self.ticks == 0 { FillRank::Arm } else { FillRank::Contents }
    }

    fn set_time(&self, file: BorrowedFd<'_>) -> Result<()> {
        let is_moment = self.is_armed() && self.flags.contains(TimerfdTimerFlags::ABSTIME);
        let it_value = match self.moment {
            Some(moment) => moment,
            None if is_moment => sum(clock_gettime(base(self.clock)), self.left),
            None => self.left,
        };
        let time = Itimerspec { it_interval: self.interval, it_value };
        timerfd_settime(file, self.flags, &time)
            .map(drop)
            .map_err(Error::kernel("timerfd_settime", Self::NAME))
    }

    fn set_ticks(&self, file: BorrowedFd<'_>) -> Result<()> {
        if self.ticks == 0 {
            return Ok(());
        }
        timerfd::set_ticks(file, self.ticks).map_err(Error::kernel("TFD_IOC_SET_TICKS", Self::NAME))
    }
}

impl FileKind for Timerfd {
    const NAME: &'static str = "timerfd";
    const TYPE: FdType = FdType::TimerFd;
    const RANKS: &'static [FillRank] = &[FillRank::Contents, FillRank::Arm];

    fn claims(probe: &Probe) -> bool {
        probe.anonymous_inode() == Some("timerfd")
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let timer = probe.duplicate()?;
        let TimerFd { clock: number, ticks, settime_flags, value, interval } =
            look(probe, timer.as_fd())?;
        let clock = clock(number).ok_or_else(|| Error::Unsupported {
            object: "a timerfd",
            detail: probe.link.clone().into(),
            reason: "it goes by a clock that is unknown here",
            hint: "a newer version of dormouse may know it",
        })?;
        let flags = TimerfdTimerFlags::from_bits_retain(settime_flags);
        if flags.contains(TimerfdTimerFlags::CANCEL_ON_SET)
            && ticks > 0
            && is_cancelled(timer.as_fd()) != Some(false)
        {
            return Err(Error::Unsupported {
                object: "a timerfd",
                detail: probe.link.clone().into(),
                reason: "a change of the clock has cancelled it, and the program has not seen that",
                hint: "have the program read it first",
            });
        }
        let (left, interval) = (timespec(value), timespec(interval));
        let mut timer = Self { status, clock, ticks, flags, left, moment: None, interval };
        if timer.is_by_wall_clock() && timer.is_armed() {
            timer.moment = Some(sum(clock_gettime(ClockId::Realtime), left));
        }
        Ok(timer)
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, clock, ticks, flags: settime, left, moment, interval } = self;
        let (flags, fown) = status.encode();
        let tfd = TimerfdEntry {
            id: id.as_raw(),
            flags,
            fown,
            clockid: *clock as u32,
            ticks: *ticks,
            settime_flags: settime.bits(),
            vsec: left.tv_sec.cast_unsigned(),
            vnsec: left.tv_nsec.cast_unsigned(),
            isec: interval.tv_sec.cast_unsigned(),
            insec: interval.tv_nsec.cast_unsigned(),
            moment_sec: moment.map(|moment| moment.tv_sec.cast_unsigned()),
            moment_nsec: moment.map(|moment| moment.tv_nsec.cast_unsigned()),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            tfd: Some(Box::new(tfd)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, _: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(tfd) = entry.tfd.as_deref() else {
            return Err(wrong("it has no timerfd_entry"));
        };
        let TimerfdEntry {
            id: own_id,
            flags,
            fown,
            clockid,
            ticks,
            settime_flags,
            vsec,
            vnsec,
            isec,
            insec,
            moment_sec,
            moment_nsec,
        } = tfd;
        if *own_id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let time = |seconds: u64, nanoseconds: u64| {
            let (tv_sec, tv_nsec) = (i64::try_from(seconds).ok()?, nanoseconds.cast_signed());
            (0..SECOND).contains(&tv_nsec).then_some(Timespec { tv_sec, tv_nsec })
        };
        let no_time = || wrong("one of its times is none");
        let settime = TimerfdTimerFlags::from_bits(*settime_flags)
            .ok_or_else(|| wrong("it was set with flags that are unknown here"))?;
        let moment = match (*moment_sec, *moment_nsec) {
            (None, None) => None,
            (seconds, nanoseconds) => {
                Some(time(seconds.unwrap_or(0), nanoseconds.unwrap_or(0)).ok_or_else(no_time)?)
            }
        };
        let timer = Self {
            status: Status::decode(Self::NAME, id, *flags, fown)?,
            clock: clock(*clockid).ok_or_else(|| wrong("there is no such clock"))?,
            ticks: *ticks,
            flags: settime,
            left: time(*vsec, *vnsec).ok_or_else(no_time)?,
            moment,
            interval: time(*isec, *insec).ok_or_else(no_time)?,
        };
        if moment.is_some() && !(timer.is_by_wall_clock() && timer.is_armed()) {
            return Err(wrong("it has a moment by the wall clock and was not set so"));
        }
        Ok(timer)
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let file = timerfd_create(self.clock, TimerfdFlags::CLOEXEC)
            .map_err(Error::kernel("timerfd_create", Self::NAME))?;
        self.status.apply_over(OFlags::empty(), Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(rank: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        for Created { kind, file, .. } in files {
            if kind.rank() == rank {
                kind.set_time(*file)?;
            }
            if rank == FillRank::Contents {
                kind.set_ticks(*file)?;
            }
        }
        Ok(())
    }
}
