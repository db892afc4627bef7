//! The time-outs of calls that forget them when they are interrupted.
//!
//! Whoever waits in one of these has a timer on its kernel stack. A stop ends
//! the wait, and the timer with it: so the stack is read before.
//!
//! - Kernel object: `struct hrtimer_sleeper`; `struct io_wait_queue` of who waits for io_uring
//! - Truth from: `ep_poll` in `fs/eventpoll.c`, `do_sigtimedwait` in
//!   `kernel/signal.c`, `__do_semtimedop` in `ipc/sem.c`, `read_events` in
//!   `fs/aio.c`, `io_cqring_wait` in `io_uring/io_uring.c`; `schedule_hrtimeout_range_clock` in
//!   `kernel/time/sleep_timeout.c`. All count the monotonic clock.
//! - Without `CAP_BPF` and `CAP_PERFMON`, or without type information: these
//!   calls take the whole of their time again; so they do if dormouse is killed

use std::collections::BTreeMap;
use std::time::Duration;

use dormouse_kernel::HostPid;
use dormouse_puppet::TimeOut;
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory};
use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

use super::stacks::{KERNEL, KERNEL_TEXT, Stacks};
use super::traced::{LOST, Traced, Unreadable, word};

/// Reads the stacks of tasks that this thread has just begun to trace.
pub(super) struct Sleepers {
    memory: KernelMemory,
    layout: Layout,
}

/// Offsets in bytes.
struct Layout {
    traced: Traced,
    stacks: Stacks,
    function: usize,
    earliest: usize,
    latest: usize,
    base: usize,
    state: usize,
    task: usize,
    size: usize,
    /// Of newer kernels; older ones have the timer of a sleeper here too.
    completions: Option<Completions>,
}

/// Of `struct io_wait_queue`.
struct Completions {
    task: usize,
    function: usize,
    ring: usize,
    timeout: usize,
    size: usize,
}

impl Completions {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let wait = btf.structure("io_wait_queue")?;
        let (entry_at, entry) = wait.member("wq")?;
        Ok(Self {
            task: entry_at + entry.offset("private")?,
            function: entry_at + entry.offset("func")?,
            ring: wait.offset("ctx")?,
            timeout: wait.offset("timeout")?,
            size: wait.size(),
        })
    }

    /// The same as [`Layout::timers`], of who waits for completions.
    fn moments(&self, stack: &[u8], task: Address, now: u64) -> impl Iterator<Item = u64> {
        let starts = (0..stack.len().saturating_sub(self.size - 1)).step_by(8);
        starts.filter_map(move |start| {
            let wait = &stack[start..];
            let timeout = word(wait, self.timeout);
            let is_wait = word(wait, self.task) == task
                && word(wait, self.function) >= KERNEL_TEXT
                && (KERNEL..KERNEL_TEXT).contains(&word(wait, self.ring))
                && (now + 1..i64::MAX as u64).contains(&timeout);
            is_wait.then_some(timeout)
        })
    }
}

/// `HRTIMER_STATE_ENQUEUED`.
const ENQUEUED: u8 = 1;
impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let sleeper = btf.structure("hrtimer_sleeper")?;
        let (timer_at, timer) = sleeper.member("timer")?;
        let (node_at, node) = timer.member("node")?;
        Ok(Self {
            traced: Traced::new(btf)?,
            stacks: Stacks::new(btf)?,
            function: timer_at + timer.offset("function")?,
            earliest: timer_at + timer.offset("_softexpires")?,
            latest: timer_at + node_at + node.offset("expires")?,
            base: timer_at + timer.offset("base")?,
            state: timer_at + timer.offset("state")?,
            task: sleeper.offset("task")?,
            size: sleeper.size(),
            completions: Completions::new(btf).ok(),
        })
    }

    /// The moment at which a task's time-out of this kind is over, by what is on
    /// its stack, in nanoseconds of the monotonic clock.
    fn moment(&self, kind: TimeOut, stack: &[u8], task: Address, now: u64) -> Option<u64> {
        match &self.completions {
            Some(waits) if matches!(kind, TimeOut::Events(_)) => {
                only(waits.moments(stack, task, now))
            }
            _ => only(self.timers(stack, task, now)),
        }
    }

    /// When the timers go off that a task has set and that are on its stack.
    fn timers(&self, stack: &[u8], task: Address, now: u64) -> impl Iterator<Item = u64> {
        let starts = (0..stack.len().saturating_sub(self.size - 1)).step_by(8);
        starts.filter_map(move |start| {
            let timer = &stack[start..];
            let (earliest, latest) = (word(timer, self.earliest), word(timer, self.latest));
            // A call before this one may have left its timer there, no longer set.
            let is_timer = word(timer, self.task) == task
                && timer[self.state] == ENQUEUED
                && word(timer, self.function) >= KERNEL_TEXT
                && word(timer, self.base) >= KERNEL
                && (earliest..i64::MAX as u64).contains(&latest)
                && latest > now;
            is_timer.then_some(earliest)
        })
    }
}

/// More than one is none: nobody could tell which.
fn only(mut moments: impl Iterator<Item = u64>) -> Option<u64> {
    moments.next().filter(|_| moments.next().is_none())
}

fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// A moment at which a time-out is over, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(u64);

impl Deadline {
    /// How long it is until then.
    pub(super) fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(monotonic()))
    }
}

impl Sleepers {
    /// Gets ready to read them; tells if it cannot.
    pub(super) fn open() -> Option<Self> {
        match KernelMemory::open(Layout::new) {
            Ok((memory, layout)) => Some(Self { memory, layout }),
            Err(error) => {
                Unreadable::from(error).tell(LOST);
                None
            }
        }
    }

    /// Until when each of `wanted` waits, by a time-out of that kind, as far as
    /// that can be told. All of them are among the `newest` tasks that are traced.
    pub(super) fn deadlines(
        &mut self,
        wanted: &BTreeMap<HostPid, TimeOut>,
        newest: usize,
    ) -> BTreeMap<HostPid, Deadline> {
        let Self { memory, layout } = self;
        let now = monotonic();
        let tasks = match layout.traced.newest(memory, newest) {
            Ok(tasks) => tasks,
            Err(error) => {
                Unreadable::from(error).tell(LOST);
                return BTreeMap::new();
            }
        };
        let mut found = BTreeMap::new();
        for (tid, task) in tasks {
            let Some(&kind) = wanted.get(&tid) else { continue };
            // One that has gone on meanwhile has another stack by now.
            let stack = layout.stacks.live(memory, task);
            match stack.map(|(_, stack)| layout.moment(kind, &stack, task, now)) {
                Ok(Some(moment)) => {
                    found.insert(tid, Deadline(moment));
                }
                Ok(None) => debug!(%tid, "no time-out on its stack"),
                Err(error) => debug!(%tid, %error, "its stack cannot be read"),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: Address = 0xffff_8880_0000_1000;
    const NOW: u64 = 5_000;

    fn layout() -> Option<Layout> {
        let types = epoll_interest::kernel_memory::TypeInformation::open().ok()?;
        Layout::new(&types.parse().ok()?).ok()
    }

    fn put(stack: &mut [u8], at: usize, value: u64) {
        stack[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    fn stack_with(layout: &Layout, starts: &[usize], latest: u64) -> Vec<u8> {
        let mut stack = vec![0; 2048];
        for &start in starts {
            put(&mut stack, start + layout.task, TASK);
            put(&mut stack, start + layout.function, KERNEL_TEXT + 0x1234);
            put(&mut stack, start + layout.base, TASK + 64);
            put(&mut stack, start + layout.earliest, latest - 1);
            put(&mut stack, start + layout.latest, latest);
            stack[start + layout.state] = ENQUEUED;
        }
        stack
    }

    #[test]
    fn a_timer_is_found_by_what_it_is_made_of() {
        let Some(layout) = layout() else { return };
        let moment = |stack: &[u8]| layout.moment(TimeOut::Millis(3), stack, TASK, NOW);
        assert_eq!(moment(&stack_with(&layout, &[512], 9_000)), Some(8_999));
        assert_eq!(moment(&stack_with(&layout, &[512], 4_000)), None, "it is over");
        assert_eq!(moment(&stack_with(&layout, &[512, 1024], 9_000)), None, "which of two?");
        assert_eq!(moment(&stack_with(&layout, &[], 9_000)), None);
        let mut before = stack_with(&layout, &[512, 1024], 9_000);
        before[512 + layout.state] = 0;
        assert_eq!(moment(&before), Some(8_999), "one is of a call that is over");
        let mut other = stack_with(&layout, &[512], 9_000);
        put(&mut other, 512 + layout.task, TASK + 8);
        assert_eq!(moment(&other), None, "somebody else's");
    }
}
