//! Descriptors that stand for a task.
#![allow(unsafe_code)]

use crate::signal::{SigInfo, Signal};
use crate::sys::check;
use crate::{Errno, FdNum, HostPid};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use thiserror::Error;

/// What was tried with a pidfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `pidfd_open(2)`.
    Open,
    /// `pidfd_getfd(2)` of a descriptor.
    GetFd(FdNum),
    /// `pidfd_send_signal(2)`.
    Signal(Signal),
}

/// It failed.
#[derive(Debug, Error)]
#[error("cannot {operation} of task {pid}", operation = Show(*operation))]
pub struct Error {
    /// What was tried.
    pub operation: Operation,
    /// On which task.
    pub pid: HostPid,
    /// Why not. `ESRCH`: it is gone.
    pub source: Errno,
}

struct Show(Operation);

impl std::fmt::Display for Show {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Operation::Open => f.write_str("open a pidfd"),
            Operation::GetFd(fd) => write!(f, "get a duplicate of descriptor {fd}"),
            Operation::Signal(signal) => write!(f, "send {signal} to the pidfd"),
        }
    }
}

/// A task, by descriptor: pid reuse cannot fool it.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    pid: HostPid,
}

impl PidFd {
    /// A process, given its number (that of its first thread).
    ///
    /// # Errors
    ///
    /// `ESRCH`: no such process; `EINVAL` or `ENOENT`: that is a thread.
    pub fn open(pid: HostPid) -> Result<Self, Error> {
        Self::open_with(pid, 0)
    }

    /// A thread (`PIDFD_THREAD`, since Linux 6.9).
    ///
    /// # Errors
    ///
    /// `ESRCH`: no such thread; `EINVAL`: the kernel is too old.
    pub fn open_thread(tid: HostPid) -> Result<Self, Error> {
        Self::open_with(tid, libc::PIDFD_THREAD)
    }

    fn open_with(pid: HostPid, flags: u32) -> Result<Self, Error> {
        // SAFETY: no memory is involved.
        let raw = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), flags) })
            .map_err(|source| Error { operation: Operation::Open, pid, source })?;
        Ok(Self { fd: owned(raw), pid })
    }

    /// Whose it is.
    #[must_use]
    pub const fn pid(&self) -> HostPid {
        self.pid
    }

    /// A duplicate of the task's descriptor `fd`, here, with `O_CLOEXEC`: the
    /// same open file description.
    ///
    /// # Errors
    ///
    /// `EBADF`: not open there; `EPERM`: the task may not be traced; `ESRCH`:
    /// it has ended; `EMFILE`: too many descriptors here.
    pub fn get_fd(&self, fd: FdNum) -> Result<OwnedFd, Error> {
        let failed = |source| Error { operation: Operation::GetFd(fd), pid: self.pid, source };
        // SAFETY: no memory is involved.
        let raw = check(unsafe {
            libc::syscall(libc::SYS_pidfd_getfd, self.fd.as_raw_fd(), fd.as_raw(), 0)
        });
        raw.map(owned).map_err(failed)
    }

    /// Sends a signal, as `kill(2)` does (to the one thread, if opened as
    /// such).
    ///
    /// # Errors
    ///
    /// `ESRCH`: the task has ended and was waited for.
    pub fn send_signal(&self, signal: Signal) -> Result<(), Error> {
        self.send(signal, None)
    }

    /// Queues a signal with all that comes with it, as `rt_sigqueueinfo(2)`.
    ///
    /// # Errors
    ///
    /// `ESRCH` as for [`Self::send_signal`]; `EINVAL`: `info` is for another
    /// signal; `EPERM`: `info` claims to come from the kernel or from
    /// `kill(2)`, and is for another process.
    pub fn send_siginfo(&self, signal: Signal, info: &SigInfo) -> Result<(), Error> {
        self.send(signal, Some(info))
    }

    fn send(&self, signal: Signal, info: Option<&SigInfo>) -> Result<(), Error> {
        let info = info.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `info` is null or a live siginfo of the kernel's size and
        // layout, which the kernel only reads.
        let sent = check(unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal.as_raw(),
                info,
                0,
            )
        });
        let operation = Operation::Signal(signal);
        sent.map(drop).map_err(|source| Error { operation, pid: self.pid, source })
    }
}

/// `struct pidfd_info` of `include/uapi/linux/pidfd.h`, as its first version.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: u32,
}

const _: () = assert!(size_of::<Info>() == 64);

/// `PIDFD_GET_INFO`.
const GET_INFO: libc::Ioctl = 0xc040_ff0b;
/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;

/// The wait status of the dead and reaped task behind a pidfd; `None` if the
/// kernel has not kept it (Linux 6.15 and later do).
#[must_use]
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<u32> {
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    // SAFETY: the number says how long `info` is, and the kernel writes no more.
    check(unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) }.into()).ok()?;
    (info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> Self {
        pidfd.fd
    }
}

fn owned(raw: u64) -> OwnedFd {
    let raw = RawFd::try_from(raw).expect("a descriptor is a non-negative int");
    // SAFETY: the kernel has just made this descriptor for this process, so
    // nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

#[cfg(test)]
mod tests {
    use super::PidFd;
    use crate::signal::Signal;
    use crate::{Errno, FdNum, HostPid, kcmp};
    use std::os::fd::AsRawFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    #[test]
    fn a_descriptor_is_fetched_and_the_task_killed() {
        let mut child = Command::new("sleep").arg("100").stdout(Stdio::piped()).spawn().unwrap();
        let pid = HostPid::from_raw(child.id().cast_signed()).unwrap();
        let pidfd = PidFd::open(pid).unwrap();
        let stdout = FdNum::from_raw(1);
        let pipe = pidfd.get_fd(stdout).unwrap();
        let me = HostPid::from_raw(std::process::id().cast_signed()).unwrap();
        let here = FdNum::from_raw(pipe.as_raw_fd().cast_unsigned());
        assert!(kcmp::files((pid, stdout), (me, here)).unwrap().is_same());
        assert_eq!(pidfd.get_fd(FdNum::from_raw(999)).unwrap_err().source, Errno::BADF);

        pidfd.send_signal(Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        let error = pidfd.send_signal(Signal::TERM).unwrap_err();
        assert_eq!(error.source, Errno::SRCH);
        assert_eq!(error.to_string(), format!("cannot send SIGTERM to the pidfd of task {pid}"));
    }

    #[test]
    fn a_thread_has_a_pidfd_of_its_own_kind() {
        let (tell, tid) = std::sync::mpsc::channel();
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = wait.recv();
        });
        let tid = HostPid::from_raw(tid.recv().unwrap()).unwrap();
        assert!(PidFd::open(tid).is_err());
        assert_eq!(PidFd::open_thread(tid).unwrap().pid(), tid);
        drop(stop);
        thread.join().unwrap();
    }
}
