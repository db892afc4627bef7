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
