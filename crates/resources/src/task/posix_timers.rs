//! POSIX timers of a process.
//!
//! - Kernel object: `struct k_itimer`
//! - Truth from: `/proc/PID/timers`; `timer_gettime(2)` and
//!   `timer_getoverrun(2)` asked of the process itself. Which thread's
//!   processor time a timer runs on is not told if that thread has made it: it
//!   is found by having the threads run (see [`ThreadClocks`]).
//! - Image: `core-PID.img`, `tc.timers.posix`
//! - Create: `timer_create(2)` under the same number, by the first thread
//! - Fill: `timer_settime(2)`. Where the last signal told of overruns, the
//!   timer is set back by as many intervals, and the signal taken out.
//! - Not preserved: overruns of a timer that signals another thread than the
//!   first; whether a time was absolute
//! - Kernel needed: numbers with gaps are quick from 6.15 on
//! - Scenarios: `timers::*`

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dormouse_image::proto::core::CoreEntry;
use dormouse_image::proto::timer::PosixTimerEntry;
use dormouse_kernel::proc::{PosixTimer, TimerNotify};
use dormouse_kernel::signal::{SigSet, Signal};
use dormouse_kernel::{HostPid, NsPid};
use dormouse_puppet::{Batch, OutSlot, Replies, Slot};
use rustix::time::{ClockId, clock_gettime};

use super::refusal::Refusal;
use crate::Result;
use crate::corrupt::corrupt_core;

/// All timers, in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PosixTimers(Vec<Timer>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timer {
    id: i32,
    /// `CLOCK_*`; negative for the processor time of a task.
    clock: i32,
    tells: Tells,
    /// `sigev_value`.
    value: u64,
    interval: Duration,
    /// Until it expires next; zero if it does not run.
    left: Duration,
    /// What the last signal told of.
    overrun: u32,
}

/// How a timer tells that it has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    Nobody,
    Process(Signal),
    Thread(Signal, NsPid),
}

/// How the numbers of timers can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// `timer_create(2)` takes them.
    Chosen,
    /// A new process counts from zero, so that gaps have to be made.
    Counted,
}

/// The places of the answers.
#[derive(Debug)]
pub struct TimersAsked(Vec<(OutSlot, Slot)>);

/// `PR_TIMER_CREATE_RESTORE_IDS` of `prctl(2)`: `timer_create(2)` takes the
/// number that its third argument points to.
const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
const NAME: &str = "POSIX timers";
const ITIMERSPEC: usize = 32;
const SIGEVENT: usize = 64;
const SIGSET: u64 = 8;
/// `CLOCK_THREAD_CPUTIME_ID` as the kernel writes it: the low bits say that it
/// is a thread's, all others are ones for the thread that makes the timer.
const OWN_THREAD_CLOCK: i32 = -2;
/// How far numbers are counted: this many calls fit into memory for batches.
const HIGHEST_COUNTED: i32 = 100_000;

impl PosixTimers {
    /// How many can be asked about in one batch.
    pub const AT_ONCE: usize = 500;

    /// Asks for what `/proc` does not tell of these timers.
    pub fn ask(timers: &[PosixTimer], batch: &mut Batch) -> TimersAsked {
        let ask = |timer: &PosixTimer| {
            let spec = ask_time(timer, batch);
            (spec, batch.call(libc::SYS_timer_getoverrun, [timer.id.into()]))
        };
        TimersAsked(timers.iter().map(ask).collect())
    }

    /// Adds those that were asked about. `threads` are those of the process.
    pub fn collect(
        &mut self,
        process: HostPid,
        timers: &[PosixTimer],
        threads: &BTreeSet<HostPid>,
        (replies, asked): (&Replies, &TimersAsked),
        clocks: &ThreadClocks,
    ) -> Result<()> {
        for (timer, (spec, overrun)) in timers.iter().zip(&asked.0) {
            let tells = match timer.notify {
                TimerNotify::None => Tells::Nobody,
                TimerNotify::Thread { signal } | TimerNotify::Signal { signal, tid: None } => {
                    Tells::Process(signal)
                }
                // The kernel has nobody to tell any more.
                TimerNotify::Signal { tid: Some(tid), .. } if !threads.contains(&tid) => {
                    Tells::Nobody
                }
                TimerNotify::Signal { signal, tid: Some(tid) } => {
                    match NsPid::from_raw(tid.as_raw()) {
                        Some(tid) => Tells::Thread(signal, tid),
                        None => Tells::Nobody,
                    }
                }
            };
            let (interval, left) = times(replies.array(spec));
            self.0.push(Timer {
                id: timer.id,
                clock: clocks.clock(process, timer)?,
                tells,
                value: timer.value,
                interval,
                left,
                overrun: replies.value(overrun) as u32,
            });
        }
        self.0.sort_unstable_by_key(|timer| timer.id);
        Ok(())
    }

    /// How long it takes until one of them expires, if one runs.
    #[must_use]
    pub fn soonest(&self) -> Option<Duration> {
        self.0.iter().map(|timer| timer.left).filter(|left| !left.is_zero()).min()
    }

    /// The signals they send.
    #[must_use]
    pub fn signals(&self) -> SigSet {
        let signals = self.0.iter().filter_map(|timer| match timer.tells {
            Tells::Nobody => None,
            Tells::Process(signal) | Tells::Thread(signal, _) => Some(signal),
        });
        signals.fold(SigSet::EMPTY, SigSet::with)
    }

    /// Writes them to the image of the process.
    pub fn encode(&self, core: &mut CoreEntry) {
        let entry = |&Timer { id, clock, tells, value, interval, left, overrun }: &Timer| {
            let (notify, signal, tid) = match tells {
                Tells::Nobody => (libc::SIGEV_NONE, 0, None),
                Tells::Process(signal) => (libc::SIGEV_SIGNAL, signal.as_raw(), None),
                Tells::Thread(signal, tid) => {
                    (libc::SIGEV_THREAD_ID, signal.as_raw(), Some(tid.as_raw()))
                }
            };
            PosixTimerEntry {
                it_id: id.cast_unsigned(),
                clock_id: clock.cast_unsigned(),
                si_signo: signal.cast_unsigned(),
                it_sigev_notify: notify.cast_unsigned(),
                sival_ptr: value,
                overrun,
                isec: interval.as_secs(),
                insec: interval.subsec_nanos().into(),
                vsec: left.as_secs(),
                vnsec: left.subsec_nanos().into(),
                notify_thread_id: tid,
            }
        };
        let timers = core.tc.get_or_insert_default().timers.get_or_insert_default();
        timers.posix = self.0.iter().map(entry).collect();
    }

    /// Reads them back and judges them. `threads` are those of the process.
    pub fn decode(core: &CoreEntry, threads: &[NsPid]) -> Result<Self> {
        let timers = core.tc.as_ref().and_then(|tc| tc.timers.as_ref());
        let entries = timers.map_or(&[][..], |timers| &timers.posix);
        let mut list = entries
            .iter()
            .map(|entry| decode_timer(entry, threads).map_err(|reason| corrupt_core(NAME, reason)))
            .collect::<Result<Vec<_>>>()?;
        list.sort_unstable_by_key(|timer| timer.id);
        if list.windows(2).any(|pair| pair[0].id == pair[1].id) {
            return Err(corrupt_core(NAME, "two with the same number"));
        }
        Ok(Self(list))
    }

    /// Whether their numbers can be had.
    pub fn check(&self, numbering: Numbering) -> Result<()> {
        match self.0.last() {
            Some(last) if numbering == Numbering::Counted && last.id > HIGHEST_COUNTED => {
                Err(Refusal::HighTimer.error(last.id.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Has the first thread of the process make and start them.
    pub fn apply(&self, numbering: Numbering, batch: &mut Batch) {
        if self.0.is_empty() {
            return;
        }
        let choose = |batch: &mut Batch, whether: u64| {
            if numbering == Numbering::Chosen {
                batch.call(
                    libc::SYS_prctl,
                    [
                        PR_TIMER_CREATE_RESTORE_IDS.into(),
                        whether.into(),
                        0.into(),
                        0.into(),
                        0.into(),
                    ],
                );
            }
        };
        choose(batch, 1);
        let mut next = 0;
        for timer in &self.0 {
            if numbering == Numbering::Counted {
                (next..timer.id).for_each(|gap| skip(gap, batch));
            }
            next = timer.id + 1;
            timer.create(batch);
        }
        choose(batch, 0);
        for timer in &self.0 {
            timer.start(batch);
        }
    }
}

/// Makes a timer of no use, for its number to be taken.
fn skip(id: i32, batch: &mut Batch) {
    create(id, libc::CLOCK_MONOTONIC, &sigevent(0, 0, libc::SIGEV_NONE, 0), batch);
    batch.call(libc::SYS_timer_delete, [id.into()]);
}

fn create(id: i32, clock: i32, event: &[u8], batch: &mut Batch) {
    let (event, id) = (batch.data(event), batch.data(&id.to_ne_bytes()));
    batch.call(libc::SYS_timer_create, [clock.into(), event.into(), id.into()]);
}

fn sigevent(value: u64, signal: i32, notify: i32, tid: i32) -> [u8; SIGEVENT] {
    let mut bytes = [0; SIGEVENT];
    bytes[..8].copy_from_slice(&value.to_ne_bytes());
    bytes[8..12].copy_from_slice(&signal.to_ne_bytes());
    bytes[12..16].copy_from_slice(&notify.to_ne_bytes());
    bytes[16..20].copy_from_slice(&tid.to_ne_bytes());
    bytes
}

fn ask_time(timer: &PosixTimer, batch: &mut Batch) -> OutSlot {
    let spec = batch.out(ITIMERSPEC);
    batch.call(libc::SYS_timer_gettime, [timer.id.into(), (&spec).into()]);
    spec
}

/// The interval, and the time left.
fn times(itimerspec: &[u8; ITIMERSPEC]) -> (Duration, Duration) {
    let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| itimerspec[at * 8 + i]));
    let time = |at| Duration::new(word(at), word(at + 1) as u32);
    (time(0), time(2))
}

impl Timer {
    fn create(&self, batch: &mut Batch) {
        let (signal, notify, tid) = match self.tells {
            Tells::Nobody => (0, libc::SIGEV_NONE, 0),
            Tells::Process(signal) => (signal.as_raw(), libc::SIGEV_SIGNAL, 0),
            Tells::Thread(signal, tid) => (signal.as_raw(), libc::SIGEV_THREAD_ID, tid.as_raw()),
        };
        create(self.id, self.clock, &sigevent(self.value, signal, notify, tid), batch);
    }

    fn start(&self, batch: &mut Batch) {
        if self.left.is_zero() {
            return;
        }
        if let Some((signal, first)) = self.overdue() {
            self.set(libc::TIMER_ABSTIME, first, batch);
            let set = batch.data(&SigSet::EMPTY.with(signal).as_raw().to_ne_bytes());
            // It is there already.
            let patience = batch.data([1_u64, 0].map(u64::to_ne_bytes).as_flattened());
            let args = [set.into(), 0.into(), patience.into(), SIGSET.into()];
            batch.may_fail(libc::SYS_rt_sigtimedwait, args);
            return;
        }
        self.set(0, self.left, batch);
    }

    fn set(&self, flags: i32, time: Duration, batch: &mut Batch) {
        let words = [self.interval, time]
            .map(|time| [time.as_secs(), time.subsec_nanos().into()].map(u64::to_ne_bytes));
        let spec = batch.data(words.as_flattened().as_flattened());
        batch.call(libc::SYS_timer_settime, [self.id.into(), flags.into(), spec.into(), 0.into()]);
    }

    /// When the timer would have had to expire first for its signal to tell of
    /// as many overruns, and to expire next when it is to.
    fn overdue(&self) -> Option<(Signal, Duration)> {
        let Tells::Process(signal) = self.tells else { return None };
        if self.overrun == 0 || self.interval.is_zero() {
            return None;
        }
        let clock = match self.clock {
            libc::CLOCK_REALTIME => ClockId::Realtime,
            libc::CLOCK_MONOTONIC => ClockId::Monotonic,
            libc::CLOCK_BOOTTIME => ClockId::Boottime,
            _ => return None,
        };
        let now = Duration::try_from(clock_gettime(clock)).ok()?;
        let past = self.interval.checked_mul(self.overrun.checked_add(1)?)?;
        Some((signal, (now + self.left).checked_sub(past)?)).filter(|(_, at)| !at.is_zero())
    }
}

fn decode_timer(entry: &PosixTimerEntry, threads: &[NsPid]) -> Result<Timer, &'static str> {
    const NANOSECONDS: u64 = 1_000_000_000;
    let time = |seconds: u64, nanos: u64| match u32::try_from(nanos) {
        Ok(nanos) if u64::from(nanos) < NANOSECONDS && i64::try_from(seconds).is_ok() => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err("a time that is none"),
    };
    let signal = || {
        let raw = i32::try_from(entry.si_signo).ok();
        raw.and_then(Signal::from_raw).ok_or("one that sends something that is no signal")
    };
    let notify = entry.it_sigev_notify.cast_signed();
    let tells = match notify {
        libc::SIGEV_NONE => Tells::Nobody,
        libc::SIGEV_SIGNAL | libc::SIGEV_THREAD => Tells::Process(signal()?),
        libc::SIGEV_THREAD_ID => {
            let tid = entry.notify_thread_id.and_then(NsPid::from_raw);
            let tid = tid.filter(|tid| threads.contains(tid));
            Tells::Thread(signal()?, tid.ok_or("one that tells a thread that is not there")?)
        }
        _ => return Err("one that tells nobody in a way there is"),
    };
    Ok(Timer {
        id: i32::try_from(entry.it_id).map_err(|_| "a number that is none")?,
        clock: entry.clock_id.cast_signed(),
        tells,
        value: entry.sival_ptr,
        interval: time(entry.isec, entry.insec)?,
        left: time(entry.vsec, entry.vnsec)?,
        overrun: entry.overrun,
    })
}

/// Whose processor time timers run on where only the kernel knows: all tasks
/// stand still, so such a timer goes on only while its own thread makes the
/// calls of a batch.
#[derive(Debug, Default)]
pub struct ThreadClocks {
    owners: BTreeMap<i32, HostPid>,
    single: bool,
}

/// Two looks at the timers in question, at the beginning and at the end of a
/// batch.
#[derive(Debug)]
pub struct Look(Vec<(i32, OutSlot)>);

impl ThreadClocks {
    /// Nothing is known yet. With a single thread there is no question.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { owners: BTreeMap::new(), single: threads == 1 }
    }

    /// Looks at the timers in question.
    pub fn look(&self, timers: &[PosixTimer], batch: &mut Batch) -> Look {
        Look(self.open(timers).map(|timer| (timer.id, ask_time(timer, batch))).collect())
    }

    /// Whether there are timers whose thread is not known: then only one
    /// thread may run at a time.
    #[must_use]
    pub fn are_open(&self, timers: &[PosixTimer]) -> bool {
        self.open(timers).next().is_some()
    }

    fn open<'t>(&self, timers: &'t [PosixTimer]) -> impl Iterator<Item = &'t PosixTimer> {
        timers.iter().filter(|timer| {
            !self.single && timer.clock == OWN_THREAD_CLOCK && !self.owners.contains_key(&timer.id)
        })
    }

    /// Takes note of those that went on while `thread` ran between two looks.
    pub fn note(&mut self, thread: HostPid, replies: &Replies, (before, after): (&Look, &Look)) {
        for ((id, before), (_, after)) in before.0.iter().zip(&after.0) {
            if replies.bytes(before) != replies.bytes(after) {
                self.owners.insert(*id, thread);
            }
        }
    }

    /// A clock that means the same to whoever makes the timer.
    fn clock(&self, process: HostPid, timer: &PosixTimer) -> Result<i32> {
        if timer.clock != OWN_THREAD_CLOCK || self.single {
            return Ok(timer.clock);
        }
        let owner = self.owners.get(&timer.id).ok_or_else(|| {
            Refusal::ThreadTimer.error(format!("timer {} of pid {process}", timer.id))
        })?;
        Ok(if *owner == process { timer.clock } else { !owner.as_raw() << 3 | 6 })
    }
}

#[cfg(test)]
mod tests {
    use dormouse_image::proto::core::CoreEntry;
    use dormouse_kernel::NsPid;
    use dormouse_kernel::signal::Signal;

    use super::{Duration, PosixTimers, Tells, Timer};

    fn timers() -> PosixTimers {
        let timer = |id, tells| Timer {
            id,
            clock: -6,
            tells,
            value: u64::MAX,
            interval: Duration::from_nanos(1),
            left: Duration::new(5, 999_999_999),
            overrun: 7,
        };
        PosixTimers(vec![
            timer(0, Tells::Nobody),
            timer(3, Tells::Process(Signal::ALRM)),
            timer(i32::MAX, Tells::Thread(Signal::USR1, NsPid::from_raw(12).unwrap())),
        ])
    }

    #[test]
    fn what_is_written_is_read() {
        let mut core = CoreEntry::default();
        timers().encode(&mut core);
        let threads = [NsPid::from_raw(12).unwrap()];
        assert_eq!(PosixTimers::decode(&core, &threads).unwrap(), timers());
        assert!(PosixTimers::decode(&core, &[]).is_err());
    }

    #[test]
    fn what_no_timer_can_be_is_refused() {
        let judge = |change: fn(&mut dormouse_image::proto::timer::PosixTimerEntry)| {
            let mut core = CoreEntry::default();
            timers().encode(&mut core);
            let posix = &mut core.tc.as_mut().unwrap().timers.as_mut().unwrap().posix;
            change(&mut posix[1]);
            PosixTimers::decode(&core, &[NsPid::from_raw(12).unwrap()]).is_ok()
        };
        assert!(judge(|_| ()));
        assert!(!judge(|timer| timer.it_id = 0));
        assert!(!judge(|timer| timer.it_id = u32::MAX));
        assert!(!judge(|timer| timer.si_signo = 65));
        assert!(!judge(|timer| timer.it_sigev_notify = 9));
        assert!(!judge(|timer| timer.vnsec = 1_000_000_000));
        assert!(!judge(|timer| timer.isec = u64::MAX));
    }
}
