//! Resource limits.
#![allow(unsafe_code)]

use crate::sys::check;
use crate::{Errno, HostPid};
use thiserror::Error;

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $libc:ident,)*) => {
        /// `RLIMIT_*`, see `getrlimit(2)`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Resource {
            $($(#[$doc])* $name = libc::$libc,)*
        }

        impl Resource {
            /// All of them, in the order of the kernel's numbers.
            pub const ALL: [Self; 16] = [$(Self::$name),*];
        }
    };
}
resources! {
    /// Seconds of processor time.
    Cpu = RLIMIT_CPU,
    /// Bytes in a file.
    FileSize = RLIMIT_FSIZE,
    /// Bytes of data segment.
    Data = RLIMIT_DATA,
    /// Bytes of stack.
    Stack = RLIMIT_STACK,
    /// Bytes of core dump.
    Core = RLIMIT_CORE,
    /// Bytes in memory; has no effect.
    Resident = RLIMIT_RSS,
    /// Processes of the user.
    Processes = RLIMIT_NPROC,
    /// One more than the highest descriptor.
    Files = RLIMIT_NOFILE,
    /// Bytes locked in memory.
    Locked = RLIMIT_MEMLOCK,
    /// Bytes of address space.
    AddressSpace = RLIMIT_AS,
    /// File locks; has no effect.
    FileLocks = RLIMIT_LOCKS,
    /// Signals queued.
    PendingSignals = RLIMIT_SIGPENDING,
    /// Bytes in message queues.
    MessageQueue = RLIMIT_MSGQUEUE,
    /// 20 less the lowest nice value.
    Nice = RLIMIT_NICE,
    /// Real-time priority.
    RealTimePriority = RLIMIT_RTPRIO,
    /// Microseconds of real-time processor time without a blocking call.
    RealTimeTimeout = RLIMIT_RTTIME,
}

impl Resource {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}

/// A soft and a hard limit, in the unit of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// What is enforced.
    pub soft: u64,
    /// What `soft` may be raised to.
    pub hard: u64,
}

impl Rlimit {
    /// No limit.
    pub const INFINITY: u64 = u64::MAX;
}

/// `prlimit(2)` failed.
#[derive(Debug, Error)]
#[error("cannot {} the {resource:?} limit of process {pid}", if *.set { "set" } else { "get" })]
pub struct Error {
    /// Whether it was to be set.
    pub set: bool,
    /// Which limit.
    pub resource: Resource,
    /// Of which process.
    pub pid: HostPid,
    /// Why not. `EPERM`: `CAP_SYS_RESOURCE` is missing.
    pub source: Errno,
}

/// Reads one limit of another process.
///
/// # Errors
///
/// `EPERM` for a process of another user without `CAP_SYS_RESOURCE`;
/// [`crate::proc::ProcDir::limits`] does not need it.
pub fn get(pid: HostPid, resource: Resource) -> Result<Rlimit, Error> {
    call(pid, resource, None)
}

/// Sets one limit of another process, and returns what it was before.
///
/// # Errors
///
/// `EPERM` as in [`get`], or to raise the hard limit without
/// `CAP_SYS_RESOURCE`; `EINVAL` for a soft limit above the hard one.
pub fn set(pid: HostPid, resource: Resource, limit: Rlimit) -> Result<Rlimit, Error> {
    call(pid, resource, Some(limit))
}

/// Raises the soft limits of the calling process to the hard ones, but for the size of core dumps:
/// there is no work for which it would be needed.
///
/// # Errors
///
/// `getrlimit(2)` and `setrlimit(2)` document none for that.
pub fn raise_own() -> Result<(), Error> {
    let own = HostPid::of_self();
    for resource in Resource::ALL.into_iter().filter(|resource| *resource != Resource::Core) {
        let limit = get(own, resource)?;
        if limit.soft == limit.hard {
            continue;
        }
        match set(own, resource, Rlimit { soft: limit.hard, ..limit }) {
            // The hard limit is above what the system allows by now (`fs.nr_open`).
            Err(Error { source: Errno::PERM, .. }) if resource == Resource::Files => {}
            set => drop(set?),
        }
    }
    Ok(())
}

fn call(pid: HostPid, resource: Resource, new: Option<Rlimit>) -> Result<Rlimit, Error> {
    let raw_new = new.map(|limit| libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard });
    let new_ptr = raw_new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `new_ptr` is null or points to `raw_new`, `old` is writable, and
    // both are of the kernel's layout; nothing is kept beyond the call.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid.as_raw(), resource as u32, new_ptr, &raw mut old)
    })
    .map_err(|source| Error { set: new.is_some(), resource, pid, source })?;
    Ok(Rlimit { soft: old.rlim_cur, hard: old.rlim_max })
}

#[cfg(test)]
mod tests {
    use super::{Resource, Rlimit, get, set};
    use crate::proc::ProcDir;

    #[test]
    fn a_limit_that_is_set_reads_back() {
        let me = ProcDir::of_self().unwrap();
        let old = get(me.pid(), Resource::MessageQueue).unwrap();
        assert_eq!(me.limits().unwrap().get(Resource::MessageQueue), old);
        let new = Rlimit { soft: 12_345, hard: old.hard };
        assert_eq!(set(me.pid(), Resource::MessageQueue, new).unwrap(), old);
        assert_eq!(me.limits().unwrap().get(Resource::MessageQueue), new);
        assert_eq!(set(me.pid(), Resource::MessageQueue, old).unwrap(), new);
        let wrong = Rlimit { soft: 2, hard: 1 };
        let error = set(me.pid(), Resource::MessageQueue, wrong).unwrap_err();
        assert_eq!(error.source, crate::Errno::INVAL);
    }
}
