//! What [`ProcDir`] tells besides the files that other modules parse whole.

use super::cgroup::{self, CgroupMembership};
use super::mountinfo::{self, MountInfo};
use super::small::{self, AuxEntry, BlockedIn, IdMapping, TimeOffsets};
use super::timers::{self, PosixTimer};
use super::{Entry, Error, Operation, ProcDir};
use crate::{Addr, AddrRange, Errno, HostPid};
use rustix::fs::{AtFlags, Stat, statat};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

/// A kind of namespace: an entry of `/proc/PID/ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceKind {
    /// Cgroup roots.
    Cgroup,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Mounts.
    Mount,
    /// The network.
    Net,
    /// Pids.
    Pid,
    /// Pids of children yet to be made.
    PidForChildren,
    /// Clock offsets.
    Time,
    /// Clock offsets of children yet to be made.
    TimeForChildren,
    /// Users and capabilities.
    User,
    /// Host and domain name.
    Uts,
}

impl NamespaceKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Cgroup,
        Self::Ipc,
        Self::Mount,
        Self::Net,
        Self::Pid,
        Self::PidForChildren,
        Self::Time,
        Self::TimeForChildren,
        Self::User,
        Self::Uts,
    ];

    /// The path of its link below `/proc/PID`.
    #[must_use]
    pub const fn entry(self) -> Entry {
        Entry::Named(self.name())
    }

    /// The same, as text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "ns/cgroup",
            Self::Ipc => "ns/ipc",
            Self::Mount => "ns/mnt",
            Self::Net => "ns/net",
            Self::Pid => "ns/pid",
            Self::PidForChildren => "ns/pid_for_children",
            Self::Time => "ns/time",
            Self::TimeForChildren => "ns/time_for_children",
            Self::User => "ns/user",
            Self::Uts => "ns/uts",
        }
    }
}

/// Which namespace: the inode number in nsfs, unique among all that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(u64);

impl NamespaceId {
    /// Wraps an inode number.
    #[must_use]
    pub const fn from_raw(inode: u64) -> Self {
        Self(inode)
    }

    /// The bare inode number.
    #[must_use]
    pub const fn as_raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All of these fail with [`Error`], as a task that is gone does.
#[allow(clippy::missing_errors_doc)]
impl ProcDir {
    /// What a link leads to, without opening it. For `fd/N` that is one call
    /// and does not even wake a device up.
    pub fn stat_link(&self, entry: Entry) -> Result<Stat, Error> {
        statat(self, entry.path().as_bytes(), AtFlags::empty())
            .map_err(|source| self.failed(Operation::Stat, entry, source))
    }

    /// `comm`: the task's name, at most 15 bytes.
    pub fn comm(&self) -> Result<OsString, Error> {
        let mut name = self.read(Entry::Named("comm"))?;
        if name.last() == Some(&b'\n') {
            name.pop();
        }
        Ok(OsString::from_vec(name))
    }

    /// `cmdline`: the arguments, or what the task wrote over them. None for a
    /// zombie and a kernel thread.
    pub fn cmdline(&self) -> Result<Vec<OsString>, Error> {
        Ok(small::parse_strings(&self.read(Entry::Named("cmdline"))?))
    }

    /// `environ`: the environment the program was started with, or what the
    /// task wrote over it.
    pub fn environ(&self) -> Result<Vec<OsString>, Error> {
        Ok(small::parse_strings(&self.read(Entry::Named("environ"))?))
    }

    /// `auxv`: the auxiliary vector of a 64-bit task, without its end mark.
    pub fn auxv(&self) -> Result<Vec<AuxEntry>, Error> {
        self.parse(Entry::Named("auxv"), small::parse_auxv)
    }

    /// `timerslack_ns`; zero for a real-time task.
    pub fn timer_slack(&self) -> Result<Duration, Error> {
        self.number("timerslack_ns", |scan| scan.dec("nanoseconds")).map(Duration::from_nanos)
    }

    /// `oom_score_adj`: -1000 to 1000.
    pub fn oom_score_adj(&self) -> Result<i16, Error> {
        self.number("oom_score_adj", |scan| scan.signed("an adjustment"))
    }

    /// `loginuid`; `None` if it was never set.
    pub fn login_uid(&self) -> Result<Option<u32>, Error> {
        self.parse(Entry::Named("loginuid"), parse_login_uid)
    }

    /// The same of one thread of the process, by `task/TID/loginuid`.
    pub fn login_uid_of(&self, tid: HostPid) -> Result<Option<u32>, Error> {
        self.parse_of(tid, "loginuid", parse_login_uid)
    }

    /// `personality(2)`.
    pub fn personality(&self) -> Result<u32, Error> {
        self.number("personality", |scan| scan.hex("a personality"))
    }

    /// `coredump_filter`: which mappings a core dump has, see `core(5)`.
    pub fn coredump_filter(&self) -> Result<u32, Error> {
        self.number("coredump_filter", |scan| scan.hex("a filter"))
    }

    /// `autogroup`: the nice value of the group that the session is scheduled
    /// as; `None` if it is not.
    pub fn autogroup_nice(&self) -> Result<Option<i32>, Error> {
        match self.parse(Entry::Named("autogroup"), small::parse_autogroup) {
            Err(Error::Io { source: Errno::NOENT, .. }) => Ok(None),
            other => other,
        }
    }

    /// `syscall`: what a task is blocked in. `EPERM` without the right to
    /// trace it.
    pub fn syscall(&self) -> Result<BlockedIn, Error> {
        self.parse(Entry::Named("syscall"), small::parse_syscall)
    }

    /// The same of one thread of the process, by `task/TID/syscall`.
    pub fn syscall_of(&self, tid: HostPid) -> Result<BlockedIn, Error> {
        self.parse_of(tid, "syscall", small::parse_syscall)
    }

    /// `wchan`: the kernel's function that the task sleeps in; `None` if it
    /// does not, or the caller may not know.
    pub fn wchan(&self) -> Result<Option<OsString>, Error> {
        let name = self.read(Entry::Named("wchan"))?;
        Ok((name != b"0" && !name.is_empty()).then(|| OsString::from_vec(name)))
    }

    /// When the task was last put on a processor (or its time there last
    /// counted), by that processor's clock. It does not change as long as
    /// the task does not run. `None` if the kernel does not tell.
    pub fn last_ran(&self) -> Result<Option<Duration>, Error> {
        match self.parse(Entry::Named("sched"), small::parse_exec_start) {
            Err(Error::Io { source: Errno::NOENT, .. }) => Ok(None),
            answer => answer,
        }
    }

    /// `cgroup`: one for each hierarchy.
    pub fn cgroups(&self) -> Result<Vec<CgroupMembership>, Error> {
        self.parse(Entry::Named("cgroup"), cgroup::parse_cgroups)
    }

    /// `mountinfo`: the mounts the task can see. `EINVAL` for a zombie.
    pub fn mounts(&self) -> Result<Vec<MountInfo>, Error> {
        self.parse(Entry::Named("mountinfo"), mountinfo::parse_mountinfo)
    }

    /// `timers`: POSIX timers of the process. `ENOENT` if the kernel was built
    /// without `CONFIG_CHECKPOINT_RESTORE`.
    pub fn timers(&self) -> Result<Vec<PosixTimer>, Error> {
        self.parse(Entry::Named("timers"), timers::parse_timers)
    }

    /// Which namespace of this kind the task is in; `None` if the kernel has
    /// no such kind.
    pub fn namespace(&self, kind: NamespaceKind) -> Result<Option<NamespaceId>, Error> {
        self.namespace_by(kind.entry(), || self.stat())
    }

    /// The same of one thread of the process, by `task/TID/ns`.
    pub fn namespace_of(
        &self,
        tid: HostPid,
        kind: NamespaceKind,
    ) -> Result<Option<NamespaceId>, Error> {
        self.namespace_by(Entry::OfTask(tid, kind.name()), || self.stat_of(tid))
    }

    fn namespace_by(
        &self,
        entry: Entry,
        stat: impl FnOnce() -> Result<super::Stat, Error>,
    ) -> Result<Option<NamespaceId>, Error> {
        let link = match self.link(entry) {
            Err(Error::Io { source: Errno::NOENT, .. }) if !stat()?.state.is_dead() => {
                return Ok(None);
            }
            link => link?,
        };
        match small::parse_namespace(link.as_bytes()) {
            Ok(inode) => Ok(Some(NamespaceId(inode))),
            Err(source) => Err(Error::Parse { entry, pid: self.pid(), source }),
        }
    }

    /// `uid_map` of the task's user namespace.
    pub fn uid_map(&self) -> Result<Vec<IdMapping>, Error> {
        self.parse(Entry::Named("uid_map"), small::parse_id_map)
    }

    /// `gid_map` of the task's user namespace.
    pub fn gid_map(&self) -> Result<Vec<IdMapping>, Error> {
        self.parse(Entry::Named("gid_map"), small::parse_id_map)
    }

    /// `setgroups`: whether `setgroups(2)` is allowed in the task's user
    /// namespace.
    pub fn setgroups_allowed(&self) -> Result<bool, Error> {
        self.number("setgroups", |scan| {
            if scan.eat(b"deny") { Ok(false) } else { scan.expect("allow").map(|()| true) }
        })
    }

    /// `timens_offsets` of the time namespace that the task's children will be
    /// in.
    pub fn time_offsets(&self) -> Result<TimeOffsets, Error> {
        self.parse(Entry::Named("timens_offsets"), small::parse_time_offsets)
    }

    /// `attr/current`: the task's security label; `None` without a security
    /// module that has any.
    pub fn security_label(&self) -> Result<Option<OsString>, Error> {
        match self.read(Entry::Named("attr/current")) {
            Ok(mut label) => {
                // SELinux ends it with a zero byte, AppArmor with a line end.
                while matches!(label.last(), Some(0 | b'\n')) {
                    label.pop();
                }
                Ok(Some(OsString::from_vec(label)))
            }
            Err(Error::Io { source: Errno::INVAL | Errno::NOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `map_files`: the mappings that have a file behind them, which
    /// [`Entry::MapFile`] opens.
    pub fn mapped_files(&self) -> Result<Vec<AddrRange>, Error> {
        let mut ranges = Vec::new();
        self.names("map_files", |name| {
            let mut bounds = name.split('-').map(|bound| u64::from_str_radix(bound, 16));
            if let (Some(Ok(start)), Some(Ok(end))) = (bounds.next(), bounds.next()) {
                ranges.extend(AddrRange::new(Addr::from_raw(start), Addr::from_raw(end)));
            }
        })?;
        Ok(ranges)
    }

    fn number<T>(
        &self,
        name: &'static str,
        number: impl FnOnce(&mut super::scan::Scan<'_>) -> Result<T, super::ParseError>,
    ) -> Result<T, Error> {
        self.parse(Entry::Named(name), |bytes| small::parse_number(bytes, number))
    }
}

fn parse_login_uid(bytes: &[u8]) -> Result<Option<u32>, super::ParseError> {
    let uid = small::parse_number(bytes, |scan| scan.dec("a user"))?;
    Ok((uid != u32::MAX).then_some(uid))
}
