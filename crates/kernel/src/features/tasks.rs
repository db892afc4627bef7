//! Tasks and tracing.
#![allow(unsafe_code)]

use super::{Reason, State};
use crate::clone::{self, CloneFlags, spawn_bare};
use crate::kcmp::{self, Shared};
use crate::pidfd::PidFd;
use crate::proc::{NamespaceKind, ProcDir};
use crate::signal::Signal;
use crate::sys::check;
use crate::{Errno, FdNum, HostPid, NsPid};
use std::os::fd::{AsFd, AsRawFd};

pub(super) fn set_tid() -> State {
    // The kernel looks at rights before it finds that pid 1 exists.
    match NsPid::from_raw(1).map(|first| spawn_bare(&[first], CloneFlags::empty())) {
        Some(Err(clone::Error::PidTaken { .. })) => State::Yes,
        Some(Err(clone::Error::Clone { source, .. })) => State::refused(source),
        Some(Err(clone::Error::Watch(error))) => State::refused(error.source),
        Some(Ok(pid)) => {
            drop(BareChild(pid));
            State::Yes
        }
        None => State::No(Reason::Finding("1 is no pid")),
    }
}

pub(super) fn kcmp() -> State {
    match kcmp::shared(HostPid::of_self(), HostPid::of_self(), Shared::Memory) {
        Ok(answer) => State::found(answer.is_same(), "a process is not the same as itself"),
        Err(error) => State::refused(error.source),
    }
}

pub(super) fn pidfd_getfd() -> State {
    let trial = || {
        let pidfd = PidFd::open(HostPid::of_self())?;
        pidfd.get_fd(FdNum::from_raw(pidfd.as_fd().as_raw_fd().cast_unsigned()))
    };
    State::of(trial().map_err(|error| error.source))
}

/// A child to try things on, which does nothing itself. Killed and waited for
/// in the end.
struct BareChild(HostPid);

impl BareChild {
    fn spawn(namespaces: CloneFlags) -> Result<Self, Errno> {
        match spawn_bare(&[], namespaces) {
            Ok(pid) => Ok(Self(pid)),
            Err(clone::Error::Clone { source, .. }) => Err(source),
            Err(clone::Error::Watch(error)) => Err(error.source),
            Err(clone::Error::PidTaken { .. }) => Err(Errno::EXIST),
        }
    }

    fn ptrace(&self, request: u32, addr: u64, data: u64) -> Result<u64, Errno> {
        // SAFETY: the child is this thread's own tracee (or becomes it). No
        // request used here writes to this process, but for the one of
        // `rseq_configuration`, which hands over a buffer of the size given.
        check(unsafe {
            libc::syscall(
                libc::SYS_ptrace,
                u64::from(request),
                self.0.as_raw() as libc::c_long,
                addr,
                data,
            )
        })
    }

    /// Traces it.
    fn seize(&self, options: u64) -> Result<(), Errno> {
        self.ptrace(libc::PTRACE_SEIZE, 0, options).map(drop)
    }

    /// Traces it and waits until it is stopped.
    fn stop(&self) -> Result<(), Errno> {
        self.seize(0)?;
        self.ptrace(libc::PTRACE_INTERRUPT, 0, 0)?;
        self.wait()
    }

    /// Waits until it has stopped or ended.
    fn wait(&self) -> Result<(), Errno> {
        loop {
            // SAFETY: no status is asked for, so nothing is written.
            let waited = check(
                unsafe { libc::waitpid(self.0.as_raw(), std::ptr::null_mut(), libc::__WALL) }
                    .into(),
            );
            match waited {
                Err(Errno::INTR) => {}
                waited => return waited.map(drop),
            }
        }
    }
}

impl Drop for BareChild {
    fn drop(&mut self) {
        let killed = PidFd::open(self.0).and_then(|pidfd| pidfd.send_signal(Signal::KILL));
        // A stop may be reported before the end is.
        while killed.is_ok() && self.wait().is_ok() {}
    }
}

fn with_tracee(trial: impl FnOnce(&BareChild) -> Result<u64, Errno>) -> Result<u64, Errno> {
    let child = BareChild::spawn(CloneFlags::empty())?;
    child.stop()?;
    trial(&child)
}

pub(super) fn ptrace() -> State {
    State::of(with_tracee(|_| Ok(0)))
}

pub(super) fn rseq_configuration() -> State {
    // struct ptrace_rseq_configuration, 24 bytes.
    let mut buffer = [0u64; 3];
    let data = buffer.as_mut_ptr().expose_provenance() as u64;
    let asked = with_tracee(|child| {
        child.ptrace(libc::PTRACE_GET_RSEQ_CONFIGURATION, size_of_val(&buffer) as u64, data)
    });
    State::of(asked)
}

pub(super) fn suspend_seccomp() -> State {
    const PTRACE_O_SUSPEND_SECCOMP: u64 = 1 << 21;
    State::of(
        BareChild::spawn(CloneFlags::empty())
            .and_then(|child| child.seize(PTRACE_O_SUSPEND_SECCOMP)),
    )
}

pub(super) fn seccomp_get_filter() -> State {
    const PTRACE_SECCOMP_GET_FILTER: u32 = 0x420c;
    // The child has no filter, unless this process has one, too: then its
    // length is the answer.
    match with_tracee(|child| child.ptrace(PTRACE_SECCOMP_GET_FILTER, 0, 0)) {
        Ok(_) | Err(Errno::NOENT | Errno::INVAL) => State::Yes,
        Err(errno) => State::refused(errno),
    }
}

pub(super) fn proc_timers() -> State {
    let timers = ProcDir::of_self().and_then(|dir| dir.timers());
    State::of(timers.map_err(|error| error.errno().unwrap_or(Errno::PROTO)))
}

pub(super) fn timer_restore_ids() -> State {
    const PR_TIMER_CREATE_RESTORE_IDS: libc::c_int = 77;
    const PR_TIMER_CREATE_RESTORE_IDS_GET: libc::c_ulong = 2;
    // SAFETY: it asks whether it is on, and changes nothing.
    State::of(check(unsafe {
        libc::syscall(
            libc::SYS_prctl,
            PR_TIMER_CREATE_RESTORE_IDS,
            PR_TIMER_CREATE_RESTORE_IDS_GET,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    }))
}

pub(super) fn time_namespace() -> State {
    let trial = || {
        let child = BareChild::spawn(CloneFlags::NEWTIME)?;
        let namespace = |pid| {
            let dir = ProcDir::open(pid)?;
            dir.namespace(NamespaceKind::Time)
        };
        Ok((namespace(child.0), namespace(HostPid::of_self())))
    };
    match trial() {
        Ok((Ok(Some(childs)), Ok(Some(own)))) => {
            State::found(childs != own, "a child is not in a new one")
        }
        Ok(_) => State::No(Reason::Finding("/proc/PID/ns has no time namespaces")),
        Err(errno) => State::refused(errno),
    }
}

pub(super) fn membarrier() -> State {
    const MEMBARRIER_CMD_GET_REGISTRATIONS: libc::c_int = 1 << 9;
    // SAFETY: it asks what this process registered for.
    State::of(check(unsafe {
        libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GET_REGISTRATIONS, 0, 0)
    }))
}
