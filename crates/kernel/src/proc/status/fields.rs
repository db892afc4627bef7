//! The lines of the file, gathered.

use super::{Capabilities, IdSet, MemorySize, SeccompMode, Status};
use crate::proc::TaskState;
use crate::proc::scan::{ParseError, Scan};
use crate::signal::SigSet;
use crate::{HostPid, NsPid};
use rustix::thread::CapabilitySet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The fields as they come. Those with no meaning for a checkpoint are known
/// by name and skipped.
#[derive(Default)]
pub(super) struct Fields {
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
    pub(super) fn line(&mut self, label: &[u8], scan: &mut Scan<'_>) -> Result<(), ParseError> {
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

    pub(super) fn finish(self, scan: &Scan<'_>) -> Result<Status, ParseError> {
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
