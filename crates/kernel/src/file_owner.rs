//! Who is told when an open file description becomes ready: `F_SETOWN_EX`
//! and `F_SETSIG` of `fcntl(2)`.
#![allow(unsafe_code)]

use crate::signal::Signal;
use crate::sys::check;
use crate::{Errno, FdNum, HostPid};
use rustix::fs::Uid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

// include/uapi/asm-generic/fcntl.h; the same on all architectures but alpha,
// mips, parisc and sparc.
const F_SETSIG: libc::c_int = 10;
const F_GETSIG: libc::c_int = 11;
const F_SETOWN_EX: libc::c_int = 15;
const F_GETOWN_EX: libc::c_int = 16;
const F_GETOWNER_UIDS: libc::c_int = 17;

/// What the number of an owner stands for (`F_OWNER_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum OwnerKind {
    /// One thread.
    Thread = 0,
    /// A process.
    Process = 1,
    /// A process group.
    Group = 2,
}

impl OwnerKind {
    /// The kernel's number for it.
    #[must_use]
    pub const fn as_raw(self) -> u32 {
        (self as i32).cast_unsigned()
    }

    /// `None` if the kernel has no such kind.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            0 => Some(Self::Thread),
            1 => Some(Self::Process),
            2 => Some(Self::Group),
            _ => None,
        }
    }
}

/// Who gets the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// What `pid` is.
    pub kind: OwnerKind,
    /// In the caller's pid namespace.
    pub pid: HostPid,
}

/// `struct f_owner_ex`.
#[repr(C)]
struct RawOwner {
    kind: libc::c_int,
    pid: libc::pid_t,
}

/// Whom `SIGIO` goes to. `None`: to nobody, or to a task that has ended or
/// cannot be seen from here.
///
/// # Errors
///
/// `EBADF` for a descriptor opened with `O_PATH`.
pub fn owner(file: impl AsFd) -> Result<Option<Owner>, Errno> {
    let mut raw = RawOwner { kind: 0, pid: 0 };
    // SAFETY: the kernel writes a struct f_owner_ex, which RawOwner is.
    check(unsafe { libc::syscall(libc::SYS_fcntl, number(&file), F_GETOWN_EX, &raw mut raw) })?;
    let kind = OwnerKind::from_raw(raw.kind.cast_unsigned());
    Ok(kind.zip(HostPid::from_raw(raw.pid)).map(|(kind, pid)| Owner { kind, pid }))
}

/// The real and effective user id of whoever set the owner: the kernel sends
/// the signal with those rights. Root's if nobody did.
///
/// # Errors
///
/// `EBADF` as for [`owner`]; `EINVAL` if the kernel was built without
/// checkpoint/restore.
pub fn owner_uids(file: impl AsFd) -> Result<(Uid, Uid), Errno> {
    let mut raw = [0_u32; 2];
    // SAFETY: the kernel writes two uid_t.
    check(unsafe { libc::syscall(libc::SYS_fcntl, number(&file), F_GETOWNER_UIDS, &raw mut raw) })?;
    Ok((Uid::from_raw(raw[0]), Uid::from_raw(raw[1])))
}

/// Makes `owner` get the signal; the caller's user ids are noted with it.
///
/// # Errors
///
/// `ESRCH`: no such task or group.
pub fn set_owner(file: impl AsFd, owner: Owner) -> Result<(), Errno> {
    let raw = RawOwner { kind: owner.kind as i32, pid: owner.pid.as_raw() };
    // SAFETY: the kernel reads a struct f_owner_ex, which RawOwner is.
    check(unsafe { libc::syscall(libc::SYS_fcntl, number(&file), F_SETOWN_EX, &raw const raw) })
        .map(drop)
}

/// Which signal is sent; `None` is `SIGIO` without details.
///
/// # Errors
///
/// `EBADF` as for [`owner`].
pub fn signal(file: impl AsFd) -> Result<Option<Signal>, Errno> {
    // SAFETY: no memory is involved.
    let raw = check(unsafe { libc::syscall(libc::SYS_fcntl, number(&file), F_GETSIG, 0) })?;
    Ok(i32::try_from(raw).ok().and_then(Signal::from_raw))
}

/// Makes `signal` the one that is sent.
///
/// # Errors
///
/// `EBADF` as for [`owner`].
pub fn set_signal(file: impl AsFd, signal: Option<Signal>) -> Result<(), Errno> {
    let raw = signal.map_or(0, Signal::as_raw);
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_fcntl, number(&file), F_SETSIG, raw) }).map(drop)
}

/// Makes the signal be sent to nobody.
///
/// # Errors
///
/// `EBADF` as for [`owner`].
pub fn clear_owner(file: impl AsFd) -> Result<(), Errno> {
    let raw = RawOwner { kind: OwnerKind::Process as i32, pid: 0 };
    // SAFETY: the kernel reads a struct f_owner_ex, which RawOwner is.
    check(unsafe { libc::syscall(libc::SYS_fcntl, number(&file), F_SETOWN_EX, &raw const raw) })
        .map(drop)
}

/// Has the signal sent from now on (`O_ASYNC`), and say that it is about descriptor `fd`: the
/// kernel notes the number by which it is asked for that.
///
/// A terminal that has no owner gets the caller's process or process group as such.
///
/// # Errors
///
/// `EBADF` also if the number is not below `RLIMIT_NOFILE`; `ENOMEM`.
pub fn announce(file: BorrowedFd<'_>, fd: FdNum) -> Result<(), Errno> {
    let (raw, fd) = (file.as_raw_fd(), i32::try_from(fd.as_raw()).map_err(|_| Errno::BADF)?);
    let under_number = || {
        // SAFETY: what this thread has by a descriptor it has by `raw` and `fd`
        // alone, and those are of its own table from here on, which goes with it.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES) }?;
        if raw != fd {
            // SAFETY: as above, whatever has had the number in that table before.
            check(unsafe { libc::dup3(raw, fd, libc::O_CLOEXEC) }.into())?;
        }
        // SAFETY: no memory is involved.
        let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) }.into())?;
        let flags = flags as libc::c_int | libc::O_ASYNC;
        // SAFETY: no memory is involved.
        check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags) }.into()).map(drop)
    };
    let done = std::thread::scope(|scope| {
        std::thread::Builder::new().spawn_scoped(scope, under_number).map(|thread| thread.join())
    });
    match done {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)),
    }
}

fn number(file: &impl AsFd) -> libc::c_int {
    BorrowedFd::as_raw_fd(&file.as_fd())
}

#[cfg(test)]
mod tests {
    use super::{
        Owner, OwnerKind, announce, clear_owner, owner, owner_uids, set_owner, set_signal, signal,
    };
    use crate::proc::ProcDir;
    use crate::signal::Signal;
    use crate::{Errno, FdNum, HostPid};
    use std::os::fd::AsFd;

    use rustix::fs::{Mode, OFlags};

    #[test]
    fn what_is_set_is_read_back() {
        let (read, _write) = rustix::pipe::pipe().unwrap();
        assert_eq!(owner(&read), Ok(None));
        assert_eq!(signal(&read), Ok(None));
        let pid = ProcDir::of_self().unwrap().pid();
        for kind in [OwnerKind::Thread, OwnerKind::Process] {
            set_owner(&read, Owner { kind, pid }).unwrap();
            assert_eq!(owner(&read), Ok(Some(Owner { kind, pid })));
        }
        let me = (rustix::process::getuid(), rustix::process::geteuid());
        assert_eq!(owner_uids(&read), Ok(me));
        set_signal(&read, Some(Signal::USR1)).unwrap();
        assert_eq!(signal(&read), Ok(Some(Signal::USR1)));
        set_signal(&read, None).unwrap();
        assert_eq!(signal(&read), Ok(None));
    }

    #[test]
    fn a_file_is_announced_by_any_number() {
        let (read, _write) = rustix::pipe::pipe().unwrap();
        let number = FdNum::from_raw(777);
        announce(read.as_fd(), number).unwrap();
        assert!(rustix::fs::fcntl_getfl(&read).unwrap().contains(OFlags::ASYNC));
        let numbers = ProcDir::of_self().unwrap().fd_numbers().unwrap();
        assert!(!numbers.contains(&number), "the number is not used here");
        let pid = ProcDir::of_self().unwrap().pid();
        set_owner(&read, Owner { kind: OwnerKind::Process, pid }).unwrap();
        clear_owner(&read).unwrap();
        assert_eq!(owner(&read), Ok(None));
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let path = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(owner(&path), Err(Errno::BADF));
        let (read, _write) = rustix::pipe::pipe().unwrap();
        let nobody = Owner { kind: OwnerKind::Process, pid: HostPid::from_raw(i32::MAX).unwrap() };
        assert_eq!(set_owner(&read, nobody), Err(Errno::SRCH));
    }
}
