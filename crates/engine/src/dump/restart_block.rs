//! What the kernel remembers of interrupted calls that it would resume.
//!
//! - Kernel object: `task_struct.restart_block`
//! - Truth from: `include/linux/restart_block.h`; `hrtimer_nanosleep` in
//!   `kernel/time/hrtimer.c`, `poll` in `fs/select.c`, `futex_wait` in
//!   `kernel/futex/waitwake.c`. Their time-outs are moments of a clock by
//!   then, and nothing but the kernel's memory tells which.
//! - Without `CAP_BPF` and `CAP_PERFMON`, or without type information: a
//!   sleep's time left is what it has written for its program, if it was
//!   given a place for that; other calls take the whole of their time again,
//!   and one that had been resumed before ends with `EINTR`.
//! - Not preserved: time left on the clocks of processors and alarms

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use dormouse_kernel::HostPid;
use dormouse_kernel::ptrace::Registers;
use dormouse_puppet::TimeOut;
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, symbols};
use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};

use super::traced::{LOST, Traced, Unreadable, word};

/// The call that the kernel would resume, and with how much time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    /// Which call it is.
    pub(super) number: u64,
    /// What is left of its time-out.
    pub(super) time_left: Option<Duration>,
}

/// The restart blocks of all tasks that this thread traces.
#[derive(Debug, Default)]
pub(super) struct RestartBlocks {
    blocks: BTreeMap<HostPid, RestartBlock>,
    /// Which calls are resumed by the functions at these addresses. Looked up
    /// once, and only if a task was interrupted twice.
    resuming: OnceCell<BTreeMap<Address, i64>>,
}

/// `struct restart_block`, as far as it is read here.
#[derive(Clone, Copy, Debug)]
struct RestartBlock {
    resumes: Address,
    /// The moment, by the member that a call uses, in nanoseconds.
    nanosleep: u64,
    nanosleep_clock: u32,
    poll: u64,
    futex: u64,
}

/// Offsets in bytes.
struct Layout {
    traced: Traced,
    block: usize,
    resumes: usize,
    nanosleep_clock: usize,
    nanosleep: usize,
    poll: usize,
    futex: usize,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let task = btf.structure("task_struct")?;
        let block = btf.structure("restart_block")?;
        let (nanosleep_at, nanosleep) = block.member("nanosleep")?;
        let (poll_at, poll) = block.member("poll")?;
        let (futex_at, futex) = block.member("futex")?;
        // Up to Linux 6.18 two members, afterwards a structure of the two.
        let until = poll.offset("tv_sec").or_else(|_| poll.offset("end_time"))?;
        Ok(Self {
            traced: Traced::new(btf)?,
            block: task.offset("restart_block")?,
            resumes: block.offset("fn")?,
            nanosleep_clock: nanosleep_at + nanosleep.offset("clockid")?,
            nanosleep: nanosleep_at + nanosleep.offset("expires")?,
            poll: poll_at + until,
            futex: futex_at + futex.offset("time")?,
        })
    }
}

/// More than any `struct restart_block` takes, in bytes.
const BLOCK: usize = 64;

impl RestartBlocks {
    /// Reads them; none if the kernel does not let us.
    pub(super) fn read() -> Self {
        match Self::try_read() {
            Ok(blocks) => blocks,
            Err(error) => {
                error.tell(LOST);
                Self::default()
            }
        }
    }

    fn try_read() -> Result<Self, Unreadable> {
        let (mut memory, layout) = KernelMemory::open(Layout::new)?;
        let tasks = layout.traced.newest(&mut memory, usize::MAX)?;
        let at: Vec<_> = tasks.iter().map(|(_, task)| task + layout.block as u64).collect();
        let bytes = memory.read(&at, BLOCK)?;
        let block = |bytes: &[u8]| {
            let poll = word(bytes, layout.poll).saturating_mul(1_000_000_000);
            RestartBlock {
                resumes: word(bytes, layout.resumes),
                nanosleep: word(bytes, layout.nanosleep),
                nanosleep_clock: word(bytes, layout.nanosleep_clock) as u32,
                poll: poll.saturating_add(word(bytes, layout.poll + 8)),
                futex: word(bytes, layout.futex),
            }
        };
        let tids = tasks.iter().map(|&(tid, _)| tid);
        let blocks = tids.zip(bytes.chunks_exact(BLOCK).map(block)).collect();
        Ok(Self { blocks, resuming: OnceCell::new() })
    }

    /// What a task with these registers, interrupted with
    /// `ERESTART_RESTARTBLOCK`, would resume. `None` if nobody knows which
    /// call that is.
    pub(super) fn of(&self, tid: HostPid, registers: &Registers) -> Option<Remembered> {
        let block = self.blocks.get(&tid);
        let number = match registers.orig_rax.cast_signed() {
            libc::SYS_restart_syscall => self.resumed_call(block?.resumes, registers)?,
            number => number,
        };
        let Registers { rdi, rsi, rdx, r10, r8, r9, .. } = *registers;
        let span = TimeOut::of(number, &[rdi, rsi, rdx, r10, r8, r9]);
        let time_left = block.zip(span).and_then(|(block, _)| block.time_left(number, rdi));
        Some(Remembered { number: number.cast_unsigned(), time_left })
    }

    /// Which call is resumed by the function at `address`: after it was
    /// interrupted a second time, registers say `restart_syscall(2)`.
    fn resumed_call(&self, address: Address, registers: &Registers) -> Option<i64> {
        /// Where no user memory is mapped: not an address, so a clock.
        const LOWEST: u64 = 4096;
        match *self.resuming.get_or_init(resuming_functions).get(&address)? {
            libc::SYS_nanosleep if registers.rdi < LOWEST => Some(libc::SYS_clock_nanosleep),
            number => Some(number),
        }
    }
}

impl RestartBlock {
    fn time_left(&self, number: i64, rdi: u64) -> Option<Duration> {
        const MONOTONIC: DynamicClockId<'_> = DynamicClockId::Known(ClockId::Monotonic);
        let (moment, clock) = match number {
            libc::SYS_poll => (self.poll, MONOTONIC),
            libc::SYS_futex => (self.futex, MONOTONIC),
            libc::SYS_nanosleep => (self.nanosleep, MONOTONIC),
            libc::SYS_clock_nanosleep => {
                // Others count the time of processors, or number alarms.
                let clocks = [
                    libc::CLOCK_REALTIME,
                    libc::CLOCK_MONOTONIC,
                    libc::CLOCK_BOOTTIME,
                    libc::CLOCK_TAI,
                ];
                if !clocks.contains(&(rdi as i32)) {
                    return None;
                }
                let clock = match self.nanosleep_clock as i32 {
                    libc::CLOCK_MONOTONIC => MONOTONIC,
                    libc::CLOCK_BOOTTIME => DynamicClockId::Known(ClockId::Boottime),
                    libc::CLOCK_TAI => DynamicClockId::Tai,
                    _ => return None,
                };
                (self.nanosleep, clock)
            }
            _ => return None,
        };
        let now = clock_gettime_dynamic(clock).ok()?;
        let now = Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32);
        Some(Duration::from_nanos(moment).saturating_sub(now))
    }
}

/// The functions by which the kernel resumes calls, and which calls those are.
const RESUMING: [(&str, i64); 5] = [
    ("do_restart_poll", libc::SYS_poll),
    ("futex_wait_restart", libc::SYS_futex),
    ("hrtimer_nanosleep_restart", libc::SYS_nanosleep),
    ("posix_cpu_nsleep_restart", libc::SYS_clock_nanosleep),
    ("alarm_timer_nsleep_restart", libc::SYS_clock_nanosleep),
];

/// Where these functions are; empty if the kernel does not tell.
fn resuming_functions() -> BTreeMap<Address, i64> {
    let Ok(found) = symbols(RESUMING.map(|(name, _)| name)) else { return BTreeMap::new() };
    let calls = RESUMING.map(|(_, number)| number);
    found.into_iter().zip(calls).filter_map(|(at, number)| Some((at?, number))).collect()
}
