//! `/proc/PID/status`.

use super::scan::{ParseError, Scan};
use super::stat::TaskState;
use crate::signal::SigSet;
use crate::{HostPid, NsPid};
use rustix::thread::CapabilitySet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Four of a kind: user or group ids of a task, as the reader's user
/// namespace sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdSet {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved.
    pub saved: u32,
    /// For the file system.
    pub fs: u32,
}

/// The five capability sets of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `CapInh`.
    pub inheritable: CapabilitySet,
    /// `CapPrm`.
    pub permitted: CapabilitySet,
    /// `CapEff`.
    pub effective: CapabilitySet,
    /// `CapBnd`.
    pub bounding: CapabilitySet,
    /// `CapAmb`.
    pub ambient: CapabilitySet,
}

/// `Seccomp:` of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompMode {
    /// None.
    Disabled,
    /// Only read, write, exit and sigreturn.
    Strict,
    /// Filters, so many (0 from kernels before 5.9, which do not tell).
    Filter {
        /// How many.
        filters: u32,
    },
}

/// Memory figures of a process, in KiB. Kernel threads and zombies have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemorySize {
    /// `VmSize`: mapped.
    pub mapped: u64,
    /// `VmLck`: locked in memory.
    pub locked: u64,
    /// `VmRSS`: in memory. Not exact, `smaps` is.
    pub resident: u64,
    /// `VmSwap`: swapped out. Not exact, `smaps` is.
    pub swapped: u64,
    /// `VmPTE`: page tables.
    pub page_tables: u64,
    /// `HugetlbPages`.
    pub hugetlb: u64,
}

/// What `/proc/PID/status` says (see `proc_pid_status` in `fs/proc/array.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The name, at most 15 bytes.
    pub name: OsString,
    /// `None` for a zombie.
    pub umask: Option<u32>,
    /// Running, sleeping, ...
    pub state: TaskState,
    /// The process.
    pub tgid: HostPid,
    /// The thread.
    pub pid: HostPid,
    /// The parent; `None` if that is outside of the reader's pid namespace.
    pub ppid: Option<HostPid>,
    /// The tracer, if any (and in the reader's pid namespace).
    pub tracer: Option<HostPid>,
    /// User ids.
    pub uid: IdSet,
    /// Group ids.
    pub gid: IdSet,
    /// How many descriptors the fd table has room for.
    pub fd_slots: u32,
    /// Supplementary groups, ascending.
    pub groups: Vec<u32>,
    /// `tgid` in each pid namespace from the reader's inwards; the last one
    /// is the task's own view. Empty if the task was just being reaped.
    pub ns_tgid: Vec<NsPid>,
    /// The same for `pid`.
    pub ns_pid: Vec<NsPid>,
    /// The same for the process group; `None` where it is not visible.
    pub ns_pgid: Vec<Option<NsPid>>,
    /// The same for the session.
    pub ns_sid: Vec<Option<NsPid>>,
    /// A kernel thread.
    pub kernel_thread: bool,
    /// `None` if it has no memory (any more).
    pub memory: Option<MemorySize>,
    /// A core dump is being written.
    pub core_dumping: bool,
    /// `PR_SET_THP_DISABLE` is not set. `None` as for `memory`.
    pub thp_enabled: Option<bool>,
    /// Threads of the process; 0 for one that is dead.
    pub threads: u32,
    /// Signals queued for the user, and how many may be.
    pub queued_signals: (u64, u64),
    /// Pending for the thread.
    pub pending: SigSet,
    /// Pending for the process.
    pub shared_pending: SigSet,
    /// Blocked in the thread.
    pub blocked: SigSet,
    /// Ignored by the process.
    pub ignored: SigSet,
    /// Handled by the process.
    pub caught: SigSet,
    /// Capabilities.
    pub caps: Capabilities,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// Seccomp.
    pub seccomp: SeccompMode,
}

impl Status {
    /// The thread's number in its own pid namespace.
    #[must_use]
    pub fn innermost_pid(&self) -> Option<NsPid> {
        self.ns_pid.last().copied()
    }

    /// The process's number in its own pid namespace.
    #[must_use]
    pub fn innermost_tgid(&self) -> Option<NsPid> {
        self.ns_tgid.last().copied()
    }

    /// Reads the whole file.
    ///
    /// # Errors
    ///
    /// A field is missing or malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut fields = Fields::default();
        let mut scan = Scan::new(bytes);
        while !scan.is_empty() {
            let label = scan.until(b':');
            scan.blanks();
            fields.line(label, &mut scan)?;
        }
        fields.finish(&scan)
    }
}

/// The fields as they come. Those with no meaning for a checkpoint are known
/// by name and skipped.
#[derive(Default)]
struct Fields {
    name: Option<OsString>,
    umask: Option<u32>,
    state: Option<TaskState>,
    tgid: Option<HostPid>,
    pid: Option<HostPid>,
    ppid: Option<HostPid>,
    tracer: Option<HostPid>,
    uid: Option<IdSet>,
    gid: Option<IdSet>,
    fd_slots: u32,
    groups: Vec<u32>,
    ns_tgid: Vec<NsPid>,
    ns_pid: Vec<NsPid>,
    ns_pgid: Vec<Option<NsPid>>,
    ns_sid: Vec<Option<NsPid>>,
    kernel_thread: bool,
    memory: MemorySize,
    has_memory: bool,
    core_dumping: bool,
    thp_enabled: Option<bool>,
    threads: u32,
    queued_signals: (u64, u64),
    signals: [SigSet; 5],
    caps: [u64; 5],
    no_new_privs: bool,
    seccomp: u32,
    filters: u32,
}

impl Fields {
    fn line(&mut self, label: &[u8], scan: &mut Scan<'_>) -> Result<(), ParseError> {
        match label {
            b"Name" => {
                self.name = Some(OsString::from_vec(unescape_name(scan.line())));
                return Ok(());
            }
            b"Umask" => self.umask = Some(scan.oct("an octal umask")?),
            b"State" => {
                self.state = Some(TaskState::from_letter(scan)?);
                scan.line();
                return Ok(());
            }
            b"Tgid" => self.tgid = HostPid::from_raw(scan.dec("a pid")?),
            b"Pid" => self.pid = HostPid::from_raw(scan.dec("a pid")?),
            b"PPid" => self.ppid = HostPid::from_raw(scan.dec("a pid")?),
            b"TracerPid" => self.tracer = HostPid::from_raw(scan.dec("a pid")?),
            b"Uid" => self.uid = Some(ids(scan)?),
            b"Gid" => self.gid = Some(ids(scan)?),
            b"FDSize" => self.fd_slots = scan.dec("a number of slots")?,
            b"Groups" => {
                while matches!(scan.peek(), Some(b'0'..=b'9')) {
                    self.groups.push(scan.dec("a group")?);
                    scan.blanks();
                }
            }
            b"NStgid" => self.ns_tgid = own_pids(scan)?,
            b"NSpid" => self.ns_pid = own_pids(scan)?,
            b"NSpgid" => self.ns_pgid = pids(scan)?,
            b"NSsid" => self.ns_sid = pids(scan)?,
            b"Kthread" => self.kernel_thread = flag(scan)?,
            b"CoreDumping" => self.core_dumping = flag(scan)?,
            b"THP_enabled" => self.thp_enabled = Some(flag(scan)?),
            b"Threads" => self.threads = scan.dec("a number of threads")?,
            b"SigQ" => {
                let queued = scan.dec("a number of signals")?;
                scan.expect("/")?;
                self.queued_signals = (queued, scan.dec("a limit")?);
            }
            b"SigPnd" => self.signals[0] = signals(scan)?,
            b"ShdPnd" => self.signals[1] = signals(scan)?,
            b"SigBlk" => self.signals[2] = signals(scan)?,
            b"SigIgn" => self.signals[3] = signals(scan)?,
            b"SigCgt" => self.signals[4] = signals(scan)?,
            b"CapInh" => self.caps[0] = scan.hex("a capability set")?,
            b"CapPrm" => self.caps[1] = scan.hex("a capability set")?,
            b"CapEff" => self.caps[2] = scan.hex("a capability set")?,
            b"CapBnd" => self.caps[3] = scan.hex("a capability set")?,
            b"CapAmb" => self.caps[4] = scan.hex("a capability set")?,
            b"NoNewPrivs" => self.no_new_privs = flag(scan)?,
            b"Seccomp" => self.seccomp = scan.dec("a seccomp mode")?,
            b"Seccomp_filters" => self.filters = scan.dec("a number of filters")?,
            _ => return self.memory_line(label, scan),
        }
        scan.end_line();
        Ok(())
    }

    fn memory_line(&mut self, label: &[u8], scan: &mut Scan<'_>) -> Result<(), ParseError> {
        let memory = &mut self.memory;
        let figure = match label {
            b"VmSize" => &mut memory.mapped,
            b"VmLck" => &mut memory.locked,
            b"VmRSS" => &mut memory.resident,
            b"VmSwap" => &mut memory.swapped,
            b"VmPTE" => &mut memory.page_tables,
            b"HugetlbPages" => &mut memory.hugetlb,
            b"Ngid"
            | b"VmPeak"
            | b"VmPin"
            | b"VmHWM"
            | b"RssAnon"
            | b"RssFile"
            | b"RssShmem"
            | b"VmData"
            | b"VmStk"
            | b"VmExe"
            | b"VmLib"
            | b"untag_mask"
            | b"x86_Thread_features"
            | b"x86_Thread_features_locked"
            | b"Speculation_Store_Bypass"
            | b"SpeculationIndirectBranch"
            | b"Cpus_allowed"
            | b"Cpus_allowed_list"
            | b"Mems_allowed"
            | b"Mems_allowed_list"
            | b"voluntary_ctxt_switches"
            | b"nonvoluntary_ctxt_switches" => {
                scan.line();
                return Ok(());
            }
            _ => {
                scan.unknown_line();
                return Ok(());
            }
        };
        self.has_memory = true;
        *figure = scan.dec("a size")?;
        scan.label("kB")?;
        scan.end_line();
        Ok(())
    }

    fn finish(self, scan: &Scan<'_>) -> Result<Status, ParseError> {
        let missing = |expected| scan.failed(expected);
        let [pending, shared_pending, blocked, ignored, caught] = self.signals;
        let [inheritable, permitted, effective, bounding, ambient] =
            self.caps.map(CapabilitySet::from_bits_retain);
        Ok(Status {
            name: self.name.ok_or_else(|| missing("Name"))?,
            umask: self.umask,
            state: self.state.ok_or_else(|| missing("State"))?,
            tgid: self.tgid.ok_or_else(|| missing("Tgid"))?,
            pid: self.pid.ok_or_else(|| missing("Pid"))?,
            ppid: self.ppid,
            tracer: self.tracer,
            uid: self.uid.ok_or_else(|| missing("Uid"))?,
            gid: self.gid.ok_or_else(|| missing("Gid"))?,
            fd_slots: self.fd_slots,
            groups: self.groups,
            ns_tgid: self.ns_tgid,
            ns_pid: self.ns_pid,
            ns_pgid: self.ns_pgid,
            ns_sid: self.ns_sid,
            kernel_thread: self.kernel_thread,
            memory: self.has_memory.then_some(self.memory),
            core_dumping: self.core_dumping,
            thp_enabled: self.thp_enabled,
            threads: self.threads,
            queued_signals: self.queued_signals,
            pending,
            shared_pending,
            blocked,
            ignored,
            caught,
            caps: Capabilities { inheritable, permitted, effective, bounding, ambient },
            no_new_privs: self.no_new_privs,
            seccomp: match self.seccomp {
                0 => SeccompMode::Disabled,
                1 => SeccompMode::Strict,
                2 => SeccompMode::Filter { filters: self.filters },
                _ => return Err(missing("a seccomp mode of 0 to 2")),
            },
        })
    }
}

/// In this one file the kernel writes a line end as `\n` and a backslash as
/// `\\` (`proc_task_name`).
fn unescape_name(raw: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        name.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(other) => other,
                None => b'\\',
            },
            byte => byte,
        });
    }
    name
}

fn ids(scan: &mut Scan<'_>) -> Result<IdSet, ParseError> {
    Ok(IdSet {
        real: scan.next_dec("a real id")?,
        effective: scan.next_dec("an effective id")?,
        saved: scan.next_dec("a saved id")?,
        fs: scan.next_dec("a file system id")?,
    })
}

fn pids(scan: &mut Scan<'_>) -> Result<Vec<Option<NsPid>>, ParseError> {
    let mut pids = Vec::with_capacity(1);
    while !matches!(scan.peek(), Some(b'\n') | None) {
        pids.push(NsPid::from_raw(scan.dec("a pid")?));
        scan.blanks();
    }
    Ok(pids)
}

/// A task that can be seen has a number in each namespace down to its own,
/// until it is reaped in the middle of the reading.
fn own_pids(scan: &mut Scan<'_>) -> Result<Vec<NsPid>, ParseError> {
    Ok(pids(scan)?.into_iter().collect::<Option<_>>().unwrap_or_default())
}

fn flag(scan: &mut Scan<'_>) -> Result<bool, ParseError> {
    match scan.peek() {
        Some(b'0') => scan.expect("0").map(|()| false),
        _ => scan.expect("1").map(|()| true),
    }
}

fn signals(scan: &mut Scan<'_>) -> Result<SigSet, ParseError> {
    scan.hex("a signal set").map(SigSet::from_raw)
}

#[cfg(test)]
mod tests {
    use super::{SeccompMode, Status};
    use crate::proc::TaskState;
    use crate::signal::Signal;
    use crate::{HostPid, NsPid};
    use rustix::thread::CapabilitySet;

    const CAPTURED: &str = "\
Name:\tc\\\\a\\nt
Umask:\t0022
State:\tt (tracing stop)
Tgid:\t30421
Ngid:\t0
Pid:\t30422
PPid:\t30412
TracerPid:\t77
Uid:\t0\t1\t2\t3
Gid:\t4\t5\t6\t4294967295
FDSize:\t256
Groups:\t4 27 
NStgid:\t30421\t6
NSpid:\t30422\t7
NSpgid:\t30412\t0
NSsid:\t0\t0
Kthread:\t0
VmPeak:\t    3060 kB
VmSize:\t    3060 kB
VmLck:\t       0 kB
VmPin:\t       0 kB
VmHWM:\t    1728 kB
VmRSS:\t    1728 kB
RssAnon:\t     112 kB
RssFile:\t    1616 kB
RssShmem:\t       0 kB
VmData:\t     360 kB
VmStk:\t     132 kB
VmExe:\t      20 kB
VmLib:\t    1528 kB
VmPTE:\t      48 kB
VmSwap:\t       0 kB
HugetlbPages:\t       0 kB
CoreDumping:\t0
THP_enabled:\t1
untag_mask:\t0xffffffffffffffff
Threads:\t2
SigQ:\t3/96365
SigPnd:\t0000000000000000
ShdPnd:\t0000000000000200
SigBlk:\tfffffffe7ffbfeff
SigIgn:\t0000000000001000
SigCgt:\t0000000000000002
CapInh:\t0000000000000000
CapPrm:\t000001fffeffffff
CapEff:\t000001fffeffffff
CapBnd:\t000001fffeffffff
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t3
Speculation_Store_Bypass:\tvulnerable
SpeculationIndirectBranch:\talways enabled
Cpus_allowed:\t3
Cpus_allowed_list:\t0-1
Mems_allowed:\t00000000,00000001
Mems_allowed_list:\t0
voluntary_ctxt_switches:\t0
nonvoluntary_ctxt_switches:\t0
";

    #[test]
    fn a_thread_in_a_pid_namespace() {
        let status = Status::parse(CAPTURED.as_bytes()).unwrap();
        assert_eq!(status.name, "c\\a\nt");
        assert_eq!(status.state, TaskState::TracingStop);
        assert_eq!(status.umask, Some(0o022));
        assert_eq!(status.tgid, HostPid::from_raw(30421).unwrap());
        assert_eq!(status.tracer, HostPid::from_raw(77));
        assert_eq!((status.uid.real, status.uid.fs, status.gid.fs), (0, 3, u32::MAX));
        assert_eq!(status.groups, [4, 27]);
        assert_eq!(status.innermost_pid(), NsPid::from_raw(7));
        assert_eq!(status.innermost_tgid(), NsPid::from_raw(6));
        assert_eq!(status.ns_pgid, [NsPid::from_raw(30412), None]);
        assert_eq!(status.memory.unwrap().resident, 1728);
        assert_eq!(status.thp_enabled, Some(true));
        assert_eq!(status.threads, 2);
        assert_eq!(status.queued_signals, (3, 96365));
        assert!(status.pending.is_empty());
        assert_eq!(status.shared_pending.iter().collect::<Vec<_>>(), [Signal::USR1]);
        assert!(status.blocked.contains(Signal::HUP) && !status.blocked.contains(Signal::KILL));
        assert_eq!(status.ignored.iter().collect::<Vec<_>>(), [Signal::PIPE]);
        assert_eq!(status.caught.iter().collect::<Vec<_>>(), [Signal::INT]);
        assert!(status.caps.effective.contains(CapabilitySet::SYS_ADMIN));
        assert!(!status.caps.effective.contains(CapabilitySet::SYS_RESOURCE));
        assert!(status.no_new_privs);
        assert_eq!(status.seccomp, SeccompMode::Filter { filters: 3 });
    }

    #[test]
    fn a_zombie_has_no_memory() {
        let text: String = CAPTURED
            .lines()
            .filter(|line| {
                !["Vm", "Rss", "Huge", "THP", "Core", "Umask", "untag"]
                    .iter()
                    .any(|label| line.starts_with(label))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let status = Status::parse(text.replace("t (tracing stop)", "Z (zombie)").as_bytes());
        let status = status.unwrap();
        assert!(status.state.is_dead());
        assert_eq!((status.memory, status.umask, status.thp_enabled), (None, None, None));
    }

    #[test]
    fn a_field_that_is_missing_is_an_error() {
        for label in ["Name", "State", "Tgid", "Pid", "Uid", "Gid"] {
            let text: String = CAPTURED
                .lines()
                .filter(|line| line.split(':').next() != Some(label))
                .map(|line| format!("{line}\n"))
                .collect();
            assert_eq!(Status::parse(text.as_bytes()).unwrap_err().expected, label);
        }
    }
}
