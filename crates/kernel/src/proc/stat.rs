//! `/proc/PID/stat`.

use super::scan::{ParseError, Scan};
use crate::{Addr, AddrRange, DeviceId, HostPid};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// What a task is doing (`task_state_array` in `fs/proc/array.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// `R`: running or ready to.
    Running,
    /// `S`: in an interruptible sleep.
    Sleeping,
    /// `D`: in a sleep no signal ends.
    DiskSleep,
    /// `T`: stopped by job control.
    Stopped,
    /// `t`: stopped by its tracer.
    TracingStop,
    /// `Z`: dead, not yet waited for.
    Zombie,
    /// `X` (or `x`): dead.
    Dead,
    /// `P`: parked, a kernel thread.
    Parked,
    /// `I`: idle, a kernel thread.
    Idle,
    /// A state this program does not know.
    Unknown(u8),
}

impl TaskState {
    pub(super) fn from_letter(scan: &mut Scan<'_>) -> Result<Self, ParseError> {
        let word = scan.word();
        Ok(match word.first() {
            Some(b'R') => Self::Running,
            Some(b'S') => Self::Sleeping,
            Some(b'D') => Self::DiskSleep,
            Some(b'T') => Self::Stopped,
            Some(b't') => Self::TracingStop,
            Some(b'Z') => Self::Zombie,
            Some(b'X' | b'x') => Self::Dead,
            Some(b'P') => Self::Parked,
            Some(b'I') => Self::Idle,
            Some(&other) => Self::Unknown(other),
            None => return scan.error("a state"),
        })
    }

    /// Whether the task has ended: it runs no more and has no memory.
    #[must_use]
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Zombie | Self::Dead)
    }
}

/// The addresses the kernel keeps for a process (`PR_SET_MM` sets them).
/// All zero for a reader who may not trace the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLayout {
    /// `mm->start_code` and `end_code`.
    pub code: (Addr, Addr),
    /// `mm->start_data` and `end_data`.
    pub data: (Addr, Addr),
    /// `mm->start_brk`. The current end is not in this file.
    pub start_brk: Addr,
    /// `mm->start_stack`.
    pub start_stack: Addr,
    /// `mm->arg_start` and `arg_end`.
    pub args: (Addr, Addr),
    /// `mm->env_start` and `env_end`.
    pub env: (Addr, Addr),
}

/// What `/proc/PID/stat` says (see `proc_pid_stat(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The task.
    pub pid: HostPid,
    /// Its name, at most 15 bytes.
    pub comm: OsString,
    /// Running, sleeping, ...
    pub state: TaskState,
    /// The parent; `None` outside of the reader's pid namespace.
    pub ppid: Option<HostPid>,
    /// The process group; `None` as above.
    pub pgrp: Option<HostPid>,
    /// The session; `None` as above.
    pub session: Option<HostPid>,
    /// The controlling terminal.
    pub tty: Option<DeviceId>,
    /// Its foreground process group.
    pub tty_pgrp: Option<HostPid>,
    /// `PF_*` (`include/linux/sched.h`).
    pub flags: u32,
    /// User and kernel time used, in clock ticks (1/100 s).
    pub cpu_ticks: (u64, u64),
    /// Of its children that were waited for.
    pub children_cpu_ticks: (i64, i64),
    /// -20 to 19.
    pub nice: i32,
    /// Threads of the process.
    pub threads: u32,
    /// Start time, in clock ticks since boot, in the reader's time namespace.
    pub start_ticks: u64,
    /// Addresses.
    pub layout: MemoryLayout,
    /// The signal that tells its parent it died; -1 for a thread that is not
    /// the first of its process.
    pub exit_signal: i32,
    /// The processor it last ran on.
    pub processor: u32,
    /// Real-time priority, 1 to 99; 0 for a task of another policy.
    pub rt_priority: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// As `wait(2)` would give it; 0 for a reader who may not trace the task.
    pub exit_code: i32,
}

impl Stat {
    /// Reads the whole file.
    ///
    /// # Errors
    ///
    /// A field is missing or malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        // The name is not escaped here: it ends at the last bracket.
        let open = bytes.iter().position(|&b| b == b'(');
        let close = bytes.iter().rposition(|&b| b == b')');
        let (Some(open), Some(close)) = (open, close) else {
            return Scan::new(bytes).error("a name in brackets");
        };
        let Some(comm) = bytes.get(open + 1..close) else {
            return Scan::new(bytes).error("a name in brackets");
        };
        let comm = OsString::from_vec(comm.to_vec());
        let Some(pid) = HostPid::from_raw(Scan::new(bytes).dec("a pid")?) else {
            return Scan::new(bytes).error("a positive pid");
        };

        let mut scan = Scan::new(bytes);
        scan.skip(close + 1);
        scan.blanks();
        let scan = &mut scan;
        let state = TaskState::from_letter(scan)?;
        let ppid = HostPid::from_raw(scan.next_dec("ppid")?);
        let pgrp = HostPid::from_raw(scan.next_signed("pgrp")?);
        let session = HostPid::from_raw(scan.next_signed("session")?);
        let tty = match scan.next_signed::<i32>("tty_nr")? {
            0 => None,
            // new_encode_dev: the packing of stat(2), cut to 32 bits.
            raw => Some(DeviceId::from_stat(u64::from(raw.cast_unsigned()))),
        };
        let tty_pgrp = HostPid::from_raw(scan.next_signed("tpgid")?);
        let flags = scan.next_dec("flags")?;
        for _fault_counter in 0..4 {
            scan.next_dec::<u64>("a number of faults")?;
        }
        let cpu_ticks = (scan.next_dec("utime")?, scan.next_dec("stime")?);
        let children_cpu_ticks = (scan.next_signed("cutime")?, scan.next_signed("cstime")?);
        scan.next_signed::<i64>("priority")?;
        let nice = scan.next_signed("nice")?;
        let threads = scan.next_dec("num_threads")?;
        scan.next_dec::<u64>("itrealvalue")?;
        let start_ticks = scan.next_dec("starttime")?;
        scan.next_dec::<u64>("vsize")?;
        scan.next_signed::<i64>("rss")?;
        scan.next_dec::<u64>("rsslim")?;
        let code = (addr(scan, "startcode")?, addr(scan, "endcode")?);
        let start_stack = addr(scan, "startstack")?;
        for _register_or_signal_set in 0..6 {
            scan.next_dec::<u64>("an obsolete field")?;
        }
        scan.next_dec::<u64>("wchan")?;
        for _swap_counter in 0..2 {
            scan.next_dec::<u64>("an obsolete field")?;
        }
        let exit_signal = scan.next_signed("exit_signal")?;
        let processor = scan.next_dec("processor")?;
        let rt_priority = scan.next_dec("rt_priority")?;
        let policy = scan.next_dec("policy")?;
        scan.next_dec::<u64>("delayacct_blkio_ticks")?;
        for _guest_time in 0..2 {
            scan.next_signed::<i64>("guest_time")?;
        }
        let data = (addr(scan, "start_data")?, addr(scan, "end_data")?);
        let start_brk = addr(scan, "start_brk")?;
        let args = (addr(scan, "arg_start")?, addr(scan, "arg_end")?);
        let env = (addr(scan, "env_start")?, addr(scan, "env_end")?);
        let exit_code = scan.next_signed("exit_code")?;
        scan.end_line();
        scan.end();
        Ok(Self {
            pid,
            comm,
            state,
            ppid,
            pgrp,
            session,
            tty,
            tty_pgrp,
            flags,
            cpu_ticks,
            children_cpu_ticks,
            nice,
            threads,
            start_ticks,
            layout: MemoryLayout { code, data, start_brk, start_stack, args, env },
            exit_signal,
            processor,
            rt_priority,
            policy,
            exit_code,
        })
    }
}

impl MemoryLayout {
    /// The argument vector's strings; `None` if the task wrote nonsense.
    #[must_use]
    pub fn arg_range(&self) -> Option<AddrRange> {
        AddrRange::new(self.args.0, self.args.1)
    }
}

fn addr(scan: &mut Scan<'_>, field: &'static str) -> Result<Addr, ParseError> {
    scan.next_dec(field).map(Addr::from_raw)
}

#[cfg(test)]
mod tests {
    use super::{Stat, TaskState};
    use crate::{Addr, DeviceId, HostPid};

    #[test]
    fn a_name_may_have_brackets_in_it() {
        let stat = Stat::parse(
            b"10622 (c) R (t) S 10608 10608 9458 34816 -1 4194304 101 0 0 0 5 6 -7 8 20 -5 1 0 \
              161509 3133440 414 18446744073709551615 94454753382400 94454753402281 \
              140735338897936 0 0 0 0 0 0 0 0 0 17 1 3 2 0 0 0 94454753418288 94454753419904 \
              94455179321344 140735338904291 140735338904311 140735338904311 140735338905579 256\n",
        )
        .unwrap();
        assert_eq!(stat.pid, HostPid::from_raw(10622).unwrap());
        assert_eq!(stat.comm, "c) R (t");
        assert_eq!(stat.state, TaskState::Sleeping);
        assert_eq!(stat.session, HostPid::from_raw(9458));
        assert_eq!(stat.tty, Some(DeviceId { major: 136, minor: 0 }));
        assert_eq!(stat.tty_pgrp, None);
        assert_eq!(stat.children_cpu_ticks, (-7, 8));
        assert_eq!(stat.nice, -5);
        assert_eq!(stat.start_ticks, 161_509);
        assert_eq!(stat.exit_signal, 17);
        assert_eq!((stat.processor, stat.rt_priority, stat.policy), (1, 3, 2));
        assert_eq!(stat.layout.start_brk, Addr::from_raw(94_455_179_321_344));
        assert_eq!(stat.layout.arg_range().unwrap().len(), 20);
        assert_eq!(stat.exit_code, 256);
    }

    #[test]
    fn a_short_line_is_an_error() {
        assert!(Stat::parse(b"").is_err());
        assert!(Stat::parse(b"1 )(").is_err());
        assert!(Stat::parse(b"1 (x) R 0 0\n").is_err());
    }
}
