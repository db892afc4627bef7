//! A task's own state: `core-TID.img` and `ids-PID.img`.

pub mod aarch64;
pub mod x86;

use crate::proto::core::aarch64::ThreadInfoAarch64;
use crate::proto::core::x86::ThreadInfoX86;
use crate::proto::creds::CredsEntry;
use crate::proto::keys::KeyringsEntry;
use crate::proto::signal::{SaEntry, SignalQueueEntry};
use crate::proto::timer::TaskTimersEntry;

/// Machine the registers belong to (`march`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Machine {
    Unknown = 0,
    X8664 = 1,
    Arm = 2,
    Aarch64 = 3,
    Ppc64 = 4,
    S390 = 5,
    Mips = 6,
    Loongarch64 = 7,
    Riscv64 = 8,
}

/// `seccomp_mode`, as `SECCOMP_MODE_*` of linux/seccomp.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SeccompMode {
    Disabled = 0,
    Strict = 1,
    Filter = 2,
}

/// `core-TID.img` (`core_entry`): one for each thread; `tc` only in a leader's. Registers of
/// other machines than x86 and arm64 are skipped; `mtype` tells.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CoreEntry {
    /// A [`Machine`].
    #[prost(enumeration = "Machine", required, tag = "1")]
    pub mtype: i32,
    /// Registers of an x86 thread.
    #[prost(message, optional, tag = "2")]
    pub thread_info: Option<ThreadInfoX86>,
    #[prost(message, optional, tag = "8")]
    pub ti_aarch64: Option<ThreadInfoAarch64>,
    #[prost(message, optional, tag = "3")]
    pub tc: Option<TaskCoreEntry>,
    /// Old place of what is in `ids-PID.img` now.
    #[prost(message, optional, tag = "4")]
    pub ids: Option<TaskKobjIdsEntry>,
    #[prost(message, optional, tag = "5")]
    pub thread_core: Option<ThreadCoreEntry>,
}

/// What a process has once (`task_core_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskCoreEntry {
    /// 1 alive, 2 dead, 3 stopped, 6 zombie (see [`task_state`](crate::proto::task_state)).
    #[prost(uint32, required, tag = "1")]
    pub task_state: u32,
    /// Wait status of a zombie, 0 otherwise.
    #[prost(uint32, required, tag = "2")]
    pub exit_code: u32,
    #[prost(uint32, required, tag = "3")]
    pub personality: u32,
    /// `PF_*` of /proc/PID/stat; information only.
    #[prost(uint32, required, tag = "4")]
    pub flags: u32,
    /// Blocked signals of the leader, bit n-1 for signal n.
    #[prost(uint64, required, tag = "5")]
    pub blk_sigset: u64,
    #[prost(bytes = "vec", required, tag = "6")]
    pub comm: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    pub timers: Option<TaskTimersEntry>,
    #[prost(message, optional, tag = "8")]
    pub rlimits: Option<TaskRlimitsEntry>,
    /// Deprecated, see [`ThreadCoreEntry::cg_set`].
    #[prost(uint32, optional, tag = "9")]
    pub cg_set: Option<u32>,
    /// Signals pending for the process as a whole.
    #[prost(message, optional, tag = "10")]
    pub signals_s: Option<SignalQueueEntry>,
    /// Deprecated, see [`ThreadCoreEntry::seccomp_mode`].
    #[prost(enumeration = "SeccompMode", optional, tag = "11")]
    pub old_seccomp_mode: Option<i32>,
    /// Deprecated, see [`ThreadCoreEntry::seccomp_filter`].
    #[prost(uint32, optional, tag = "12")]
    pub old_seccomp_filter: Option<u32>,
    #[prost(uint32, optional, tag = "13")]
    pub loginuid: Option<u32>,
    #[prost(int32, optional, tag = "14")]
    pub oom_score_adj: Option<i32>,
    /// Actions of signals 1.. in order, SIGKILL and SIGSTOP left out.
    #[prost(message, repeated, tag = "15")]
    pub sigactions: Vec<SaEntry>,
    #[prost(bool, optional, tag = "18")]
    pub child_subreaper: Option<bool>,
    /// Signals 65 to 128; MIPS only.
    #[prost(uint64, optional, tag = "20")]
    pub blk_sigset_extended: Option<u64>,
    /// Signal that stopped the group, when `task_state` is stopped.
    #[prost(uint32, optional, tag = "21")]
    pub stop_signo: Option<u32>,
    /// `MEMBARRIER_CMD_GET_REGISTRATIONS`; absent means none.
    #[prost(uint32, optional, tag = "22")]
    pub membarrier_registration_mask: Option<u32>,
    /// Dormouse: the signal that tells the parent of the process's end, 0 for none. Absent means
    /// SIGCHLD, which CRIU gives to all.
    #[prost(uint32, optional, tag = "20001")]
    pub exit_signal: Option<u32>,
    /// Dormouse: the thread of the parent whose child the process is. Absent means the leader,
    /// to which CRIU gives all.
    #[prost(uint32, optional, tag = "20002")]
    pub parent_tid: Option<u32>,
    /// Dormouse: of a stopped process, whether `wait4(2)` has told the parent already. Absent
    /// means that it is still to be told.
    #[prost(bool, optional, tag = "20003")]
    pub stop_seen: Option<bool>,
    /// Dormouse: how the first thread has ended, as `wait4(2)` would tell, while others go on.
    #[prost(uint32, optional, tag = "20004")]
    pub leader_status: Option<u32>,
    /// Dormouse: whether the process has given up the terminal that controls its session
    /// (`TIOCNOTTY`), or was forked before the session had one.
    #[prost(bool, optional, tag = "20010")]
    pub without_terminal: Option<bool>,
    /// Dormouse: `PR_GET_MDWE`; absent means none.
    #[prost(uint32, optional, tag = "20011")]
    pub mdwe: Option<u32>,
    /// Dormouse: `/proc/PID/coredump_filter`.
    #[prost(uint32, optional, tag = "20012")]
    pub coredump_filter: Option<u32>,
    /// Dormouse: the nice value of `/proc/PID/autogroup`; absent means 0.
    #[prost(sint32, optional, tag = "20013")]
    pub autogroup_nice: Option<i32>,
    /// Dormouse: what the process has asked for by `ARCH_REQ_XCOMP_PERM`, one bit a component.
    #[prost(uint64, optional, tag = "20014")]
    pub xcomp_permission: Option<u64>,
    /// Dormouse: `PR_TIMER_CREATE_RESTORE_IDS` is on; absent means off.
    #[prost(bool, optional, tag = "20015")]
    pub timer_numbers: Option<bool>,
    /// Dormouse: `PR_FUTEX_HASH_GET_SLOTS`; absent means what the kernel gives.
    #[prost(uint32, optional, tag = "20016")]
    pub futex_slots: Option<u32>,
    /// Dormouse: what is left of a first thread that has ended. CRIU keeps nothing of it.
    #[prost(message, optional, tag = "20017")]
    pub remains: Option<ThreadCoreEntry>,
    /// Dormouse: whether the parent has still to be told by `wait4(2)` that the process goes on after a
    /// stop. Absent means no.
    #[prost(bool, optional, tag = "20018")]
    pub continued: Option<bool>,
}

/// What every thread has (`thread_core_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ThreadCoreEntry {
    /// Address of the robust futex list head, `get_robust_list(2)`.
    #[prost(uint64, required, tag = "1")]
    pub futex_rla: u64,
    /// Its size in bytes.
    #[prost(uint32, required, tag = "2")]
    pub futex_rla_len: u32,
    #[prost(sint32, optional, tag = "3")]
    pub sched_nice: Option<i32>,
    /// `SCHED_*`.
    #[prost(uint32, optional, tag = "4")]
    pub sched_policy: Option<u32>,
    /// Static priority, of real-time policies only.
    #[prost(uint32, optional, tag = "5")]
    pub sched_prio: Option<u32>,
    /// Blocked signals, bit n-1 for signal n.
    #[prost(uint64, optional, tag = "6")]
    pub blk_sigset: Option<u64>,
    /// Alternate signal stack.
    #[prost(message, optional, tag = "7")]
    pub sas: Option<ThreadSasEntry>,
    /// `PR_GET_PDEATHSIG`.
    #[prost(uint32, optional, tag = "8")]
    pub pdeath_sig: Option<u32>,
    /// Signals pending for this thread.
    #[prost(message, optional, tag = "9")]
    pub signals_p: Option<SignalQueueEntry>,
    #[prost(message, optional, tag = "10")]
    pub creds: Option<CredsEntry>,
    #[prost(enumeration = "SeccompMode", optional, tag = "11")]
    pub seccomp_mode: Option<i32>,
    /// Index of the last filter in `seccomp.img`.
    #[prost(uint32, optional, tag = "12")]
    pub seccomp_filter: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "13")]
    pub comm: Option<Vec<u8>>,
    /// Signals 65 to 128; MIPS only.
    #[prost(uint64, optional, tag = "14")]
    pub blk_sigset_extended: Option<u64>,
    #[prost(message, optional, tag = "15")]
    pub rseq_entry: Option<RseqEntry>,
    /// Id of a [`CgSetEntry`](crate::proto::cgroup::CgSetEntry).
    #[prost(uint32, optional, tag = "16")]
    pub cg_set: Option<u32>,
    /// Dormouse: the thread has an fd table of its own, `fdinfo-ID.img` with this id. CRIU would
    /// give it its process's.
    #[prost(uint32, optional, tag = "20001")]
    pub files_id: Option<u32>,
    /// Dormouse: the thread has a working directory, root and umask of its own, `fs-TID.img` with
    /// this number: the lowest tid of those that share it, so that no process's is called the same.
    #[prost(uint32, optional, tag = "20002")]
    pub fs_id: Option<u32>,
    /// Extension: the thread was interrupted in a system call that answered with this, negative
    /// (`-EINTR`, or the kernel's own `ERESTART` codes); its registers make the call again.
    #[prost(sint64, optional, tag = "20003")]
    pub interrupted: Option<i64>,
    /// Extension: what was left of that call's time-out, in nanoseconds.
    #[prost(uint64, optional, tag = "20004")]
    pub time_left: Option<u64>,
    /// Extension: it waits in an epoll in which other tasks do too; it began to wait before those
    /// with a higher number.
    #[prost(uint32, optional, tag = "20005")]
    pub turn: Option<u32>,
    /// Dormouse: how the thread is scheduled beyond policy, nice value and priority. Absent means
    /// that there is nothing special.
    #[prost(message, optional, tag = "20010")]
    pub scheduling: Option<SchedulingEntry>,
    /// Dormouse: `ioprio_get(2)`; absent means that it follows from the nice value.
    #[prost(uint32, optional, tag = "20011")]
    pub io_priority: Option<u32>,
    /// Dormouse: `PR_GET_TIMERSLACK`, in nanoseconds.
    #[prost(uint64, optional, tag = "20012")]
    pub timer_slack: Option<u64>,
    /// Dormouse: `PR_GET_TSC`.
    #[prost(uint32, optional, tag = "20013")]
    pub tsc: Option<u32>,
    /// Dormouse: `PR_MCE_KILL_GET`.
    #[prost(uint32, optional, tag = "20014")]
    pub mce_kill: Option<u32>,
    /// Dormouse: `PR_GET_SPECULATION_CTRL` of store bypass, indirect branches, L1D flush.
    #[prost(uint32, repeated, tag = "20015")]
    pub speculation: Vec<u32>,
    /// Dormouse: `/proc/PID/task/TID/loginuid` of a thread that is not the first; absent means
    /// that of the first.
    #[prost(uint32, optional, tag = "20016")]
    pub login_uid: Option<u32>,
    /// Dormouse: `get_mempolicy(2)`; absent means the default.
    #[prost(message, optional, tag = "20017")]
    pub memory_policy: Option<MemoryPolicyEntry>,
    /// Dormouse: syscall user dispatch; absent means that it is off.
    #[prost(message, optional, tag = "20018")]
    pub dispatch: Option<SyscallDispatchEntry>,
    /// Dormouse: whether `cpuid` raises a signal (`ARCH_SET_CPUID`); absent means that it does not.
    #[prost(bool, optional, tag = "20032")]
    pub cpuid_faults: Option<bool>,
    /// Dormouse: what is undone of operations on semaphores when the thread ends.
    #[prost(message, repeated, tag = "20030")]
    pub semaphore_undo: Vec<SemaphoreUndoEntry>,
    /// Dormouse: the task whose `semaphore_undo` is that of the thread as well. Absent means that
    /// of the first thread of its process; of that thread, its own.
    #[prost(uint32, optional, tag = "20031")]
    pub undo_tid: Option<u32>,
    /// Dormouse: the keyrings that the thread has; absent means none.
    #[prost(message, optional, tag = "20033")]
    pub keyrings: Option<KeyringsEntry>,
}

/// What is added to a System V semaphore when a task ends (`SEM_UNDO`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SemaphoreUndoEntry {
    /// The number of the set.
    #[prost(uint32, tag = "1")]
    pub set: u32,
    /// The key of the set, 0 for none.
    #[prost(uint32, tag = "2")]
    pub key: u32,
    /// How many semaphores the set has.
    #[prost(uint32, tag = "3")]
    pub len: u32,
    /// Which of them.
    #[prost(uint32, tag = "4")]
    pub semaphore: u32,
    /// What is added.
    #[prost(sint32, tag = "5")]
    pub by: i32,
}

/// What CRIU does not keep of a thread's scheduling, as `struct sched_attr` has it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SchedulingEntry {
    /// `SCHED_FLAG_*`.
    #[prost(uint64, tag = "1")]
    pub flags: u64,
    /// Nanoseconds: for a deadline, or the time slice the thread asked for.
    #[prost(uint64, tag = "2")]
    pub runtime: u64,
    /// Nanoseconds.
    #[prost(uint64, tag = "3")]
    pub deadline: u64,
    /// Nanoseconds.
    #[prost(uint64, tag = "4")]
    pub period: u64,
    /// 0 to 1024.
    #[prost(uint32, tag = "5")]
    pub util_min: u32,
    /// 0 to 1024.
    #[prost(uint32, tag = "6")]
    pub util_max: u32,
    /// Processors the thread may run on, 64 a word, the lowest first; empty means all.
    #[prost(uint64, repeated, tag = "7")]
    pub affinity: Vec<u64>,
}

/// On which nodes memory of a thread is to be, as `set_mempolicy(2)` takes it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MemoryPolicyEntry {
    /// `MPOL_*`, with `MPOL_F_*_NODES`.
    #[prost(uint32, tag = "1")]
    pub mode: u32,
    /// Nodes, 64 a word, the lowest first.
    #[prost(uint64, repeated, tag = "2")]
    pub nodes: Vec<u64>,
}

/// `PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SyscallDispatchEntry {
    /// Address of the selector, 0 for none.
    #[prost(uint64, tag = "1")]
    pub selector: u64,
    /// The first address from which calls are always let through.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// How many bytes there are; beyond the end of all addresses it goes on at zero.
    #[prost(uint64, tag = "3")]
    pub len: u64,
}

/// `ids-PID.img` (`task_kobj_ids_entry`): which kernel objects the process uses. Equal numbers of
/// a kind are one object.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskKobjIdsEntry {
    #[prost(uint32, required, tag = "1")]
    pub vm_id: u32,
    #[prost(uint32, required, tag = "2")]
    pub files_id: u32,
    #[prost(uint32, required, tag = "3")]
    pub fs_id: u32,
    #[prost(uint32, required, tag = "4")]
    pub sighand_id: u32,
    #[prost(uint32, optional, tag = "5")]
    pub pid_ns_id: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    pub net_ns_id: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    pub ipc_ns_id: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    pub uts_ns_id: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub mnt_ns_id: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    pub user_ns_id: Option<u32>,
    #[prost(uint32, optional, tag = "11")]
    pub cgroup_ns_id: Option<u32>,
    #[prost(uint32, optional, tag = "12")]
    pub time_ns_id: Option<u32>,
}

/// `sigaltstack(2)` (`thread_sas_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ThreadSasEntry {
    /// Lowest address.
    #[prost(uint64, required, tag = "1")]
    pub ss_sp: u64,
    /// Bytes.
    #[prost(uint64, required, tag = "2")]
    pub ss_size: u64,
    /// `SS_*`.
    #[prost(uint32, required, tag = "3")]
    pub ss_flags: u32,
}

/// `rlimit_entry`; all ones is `RLIM_INFINITY`. Unit by resource, see getrlimit(2).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RlimitEntry {
    #[prost(uint64, required, tag = "1")]
    pub cur: u64,
    #[prost(uint64, required, tag = "2")]
    pub max: u64,
}

/// `task_rlimits_entry`: `RLIMIT_*` 0, 1, 2 ... in this order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskRlimitsEntry {
    #[prost(message, repeated, tag = "1")]
    pub rlimits: Vec<RlimitEntry>,
}

/// Registered restartable sequence (`rseq_entry`), `PTRACE_GET_RSEQ_CONFIGURATION`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RseqEntry {
    #[prost(uint64, required, tag = "1")]
    pub rseq_abi_pointer: u64,
    /// Bytes.
    #[prost(uint32, required, tag = "2")]
    pub rseq_abi_size: u32,
    #[prost(uint32, required, tag = "3")]
    pub signature: u32,
    /// Critical section the thread was in (`rseq_cs` of the area) when it was stopped.
    #[prost(uint64, optional, tag = "4")]
    pub rseq_cs_pointer: Option<u64>,
}
