//! What this kernel, and these privileges, can do.
//!
//! Each feature is tried for real, and leaves nothing behind: no process,
//! descriptor or setting. Nothing is tried before it is asked for, so a dump
//! or a restore pays for what it needs only.

mod files;
mod memory;
mod privileges;
mod sockets;
mod tasks;

use crate::Errno;
use std::fmt;

/// Whether a feature can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It can.
    Yes,
    /// The kernel has it not.
    No(Reason),
    /// The kernel may have it, but the caller lacks the right to it.
    Denied(Reason),
}

/// Why a feature cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The kernel said so.
    Errno(Errno),
    /// The call was answered, but not as it should have been.
    Finding(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => errno.fmt(f),
            Self::Finding(finding) => f.write_str(finding),
        }
    }
}

impl State {
    /// Whether it can be used.
    #[must_use]
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Yes)
    }

    /// From the outcome of a trial.
    fn of<T>(outcome: Result<T, Errno>) -> Self {
        match outcome {
            Ok(_) => Self::Yes,
            Err(errno) => Self::refused(errno),
        }
    }

    const fn refused(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::Denied(Reason::Errno(errno)),
            errno => Self::No(Reason::Errno(errno)),
        }
    }

    const fn found(is_so: bool, otherwise: &'static str) -> Self {
        if is_so { Self::Yes } else { Self::No(Reason::Finding(otherwise)) }
    }
}

/// What became of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Which feature.
    pub probe: Probe,
    /// Whether it can be used.
    pub state: State,
}

impl Feature {
    /// Its name, as the kernel's documentation has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.probe.name()
    }

    /// What dormouse uses it for.
    #[must_use]
    pub const fn what_for(&self) -> &'static str {
        self.probe.what_for()
    }

    /// Whether nothing works without it.
    #[must_use]
    pub const fn needed(&self) -> bool {
        self.probe.needed()
    }
}

macro_rules! probes {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $what_for:literal, $need:ident, $trial:expr;)*) => {
        /// A feature to try.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Probe {
            $(#[doc = $what_for] $variant,)*
        }

        impl Probe {
            /// All of them, in an order fit for showing.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The feature's name, as the kernel's documentation has it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What dormouse uses it for.
            #[must_use]
            pub const fn what_for(self) -> &'static str {
                match self { $(Self::$variant => $what_for,)* }
            }

            /// Whether nothing works without it.
            #[must_use]
            pub const fn needed(self) -> bool {
                match self { $(Self::$variant => probes!(@ $need),)* }
            }

            /// Tries it, now.
            #[must_use]
            pub fn state(self) -> State {
                match self { $(Self::$variant => $trial(),)* }
            }
        }
    };
    (@ needed) => { true };
    (@ optional) => { false };
}
probes! {
    CapCheckpointRestore: "CAP_CHECKPOINT_RESTORE", "choose pids, open map_files", needed,
        privileges::checkpoint_restore;
    CapSysPtrace: "CAP_SYS_PTRACE", "trace tasks of other users", needed, privileges::sys_ptrace;
    CapSysAdmin: "CAP_SYS_ADMIN", "namespaces, mounts, seccomp filters, frame numbers", needed,
        privileges::sys_admin;
    CapSetuid: "CAP_SETUID", "give a task its users", needed, privileges::setuid;
    CapSetgid: "CAP_SETGID", "give a task its groups", needed, privileges::setgid;
    CapSetpcap: "CAP_SETPCAP", "give a task its capabilities", needed, privileges::setpcap;
    CapNetAdmin: "CAP_NET_ADMIN", "TCP connections, network namespaces", optional,
        privileges::net_admin;
    CapSysResource: "CAP_SYS_RESOURCE", "raise hard limits, write to loginuid and the like",
        optional, privileges::sys_resource;
    CapSysNice: "CAP_SYS_NICE", "real-time policies, negative nice values", optional,
        privileges::sys_nice;
    CapDacReadSearch: "CAP_DAC_READ_SEARCH", "find what inotify and fanotify watch", optional,
        privileges::dac_read_search;
    CapIpcLock: "CAP_IPC_LOCK", "lock memory beyond the limit", optional, privileges::ipc_lock;
    CapBpf: "CAP_BPF", "see what epolls watch and have pending", optional, privileges::bpf;
    CapPerfmon: "CAP_PERFMON", "see what epolls watch and have pending", optional,
        privileges::perfmon;

    SetTid: "clone3 set_tid", "give a task its pid", needed, tasks::set_tid;
    Kcmp: "kcmp", "tell shared objects apart", needed, tasks::kcmp;
    PidfdGetfd: "pidfd_getfd", "take a duplicate of a task's descriptor", needed,
        tasks::pidfd_getfd;
    Ptrace: "PTRACE_SEIZE", "stop tasks and run system calls in them", needed, tasks::ptrace;
    RseqConfiguration: "PTRACE_GET_RSEQ_CONFIGURATION", "keep restartable sequences", needed,
        tasks::rseq_configuration;
    SuspendSeccomp: "PTRACE_O_SUSPEND_SECCOMP", "run system calls in tasks with a filter",
        optional, tasks::suspend_seccomp;
    SeccompGetFilter: "PTRACE_SECCOMP_GET_FILTER", "save seccomp filters", optional,
        tasks::seccomp_get_filter;
    ProcTimers: "/proc/PID/timers", "save POSIX timers", optional, tasks::proc_timers;
    TimerRestoreIds: "PR_TIMER_CREATE_RESTORE_IDS", "give a POSIX timer its number at once",
        optional, tasks::timer_restore_ids;
    TimeNamespace: "time namespaces", "clocks that go on where they stopped", optional,
        tasks::time_namespace;
    Membarrier: "membarrier registrations", "keep what a task registered for", optional,
        tasks::membarrier;

    MapFiles: "/proc/PID/map_files", "open the files behind mappings", needed, memory::map_files;
    MapVdso: "ARCH_MAP_VDSO_64", "put the vDSO where it was", needed, memory::map_vdso;
    SetMmMap: "PR_SET_MM_MAP", "set a task's addresses in one go", needed, memory::set_mm_map;
    PagemapScan: "PAGEMAP_SCAN", "find populated pages quickly", optional, memory::pagemap_scan;
    GuardPages: "PAGE_IS_GUARD", "keep guard pages", optional, memory::guard_pages;
    FrameNumbers: "frame numbers in pagemap", "store pages shared by copy-on-write once",
        optional, memory::frame_numbers;
    WriteProtectAsync: "userfaultfd write protection", "track changes between pre-dumps",
        optional, memory::write_protect_async;
    SoftDirty: "soft-dirty bits", "read CRIU's way of tracking changes", optional,
        memory::soft_dirty;
    AnonVmaName: "PR_SET_VMA_ANON_NAME", "keep the names of mappings", optional,
        memory::anon_vma_name;
    MemfdSecret: "memfd_secret", "tasks with secret memory may run here", optional,
        memory::memfd_secret;

    FdinfoLocks: "locks in fdinfo", "save locks of files and leases", optional,
        files::fdinfo_locks;
    TypeInformation: "BTF", "see what epolls watch and have pending", optional,
        files::type_information;
    EpollParams: "EPIOCSPARAMS", "keep an epoll's busy-poll parameters", optional,
        files::epoll_params;
    CloseRange: "close_range", "strip a new task of its descriptors", needed, files::close_range;
    TimerfdTicks: "TFD_IOC_SET_TICKS", "keep expirations of timerfds", optional,
        files::timerfd_ticks;
    FileHandles: "open_by_handle_at", "find what inotify and fanotify watch", optional,
        files::file_handles;
    IoUring: "io_uring", "rings of io_uring are restored", optional, files::io_uring;

    TcpRepair: "TCP_REPAIR", "keep TCP connections", optional, sockets::tcp_repair;
    Nftables: "nftables", "hold up packets of TCP connections until the restore", optional,
        sockets::nftables;
    DiagUnix: "sock_diag for Unix sockets", "find peers and queues", needed, sockets::diag_unix;
    DiagTcp: "sock_diag for TCP", "save TCP sockets", optional, sockets::diag_tcp;
    DiagUdp: "sock_diag for UDP", "save UDP sockets", optional, sockets::diag_udp;
    DiagRaw: "sock_diag for raw sockets", "save raw sockets", optional, sockets::diag_raw;
    DiagPacket: "sock_diag for packet sockets", "save packet sockets", optional,
        sockets::diag_packet;
    DiagNetlink: "sock_diag for netlink", "save netlink sockets", optional, sockets::diag_netlink;
}

/// Tries all there is.
#[must_use]
pub fn probe_all() -> Vec<Feature> {
    Probe::ALL.iter().map(|&probe| Feature { probe, state: probe.state() }).collect()
}

#[cfg(test)]
mod tests {
    use super::State;
    use crate::Errno;

    #[test]
    fn refusals_are_told_from_absence() {
        assert!(matches!(State::of::<()>(Err(Errno::PERM)), State::Denied(_)));
        assert!(matches!(State::of::<()>(Err(Errno::NOSYS)), State::No(_)));
        assert!(State::of(Ok(())).is_yes());
    }
}
