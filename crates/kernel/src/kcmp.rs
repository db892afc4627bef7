//! Whether two tasks share a kernel object: `kcmp(2)`.
#![allow(unsafe_code)]

use crate::sys::check;
use crate::{Errno, FdNum, HostPid};
use std::cmp::Ordering;
use thiserror::Error;

/// How two kernel objects compare. The order is that of their addresses,
/// scrambled by a key chosen at boot: total, and stable until the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kcmp {
    /// The first is less than the second.
    Less,
    /// They are one and the same.
    Same,
    /// The first is greater than the second.
    Greater,
    /// They differ, and the kernel does not say how.
    Different,
}

impl Kcmp {
    /// Whether both are one object.
    #[must_use]
    pub const fn is_same(self) -> bool {
        matches!(self, Self::Same)
    }

    /// For sorting. `None` if the kernel gave no order (none does today).
    #[must_use]
    pub const fn ordering(self) -> Option<Ordering> {
        match self {
            Self::Less => Some(Ordering::Less),
            Self::Same => Some(Ordering::Equal),
            Self::Greater => Some(Ordering::Greater),
            Self::Different => None,
        }
    }
}

/// Objects that each task has one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Shared {
    /// The address space (`CLONE_VM`).
    Memory = 1,
    /// The fd table (`CLONE_FILES`).
    Files = 2,
    /// Root, working directory and umask (`CLONE_FS`).
    Fs = 3,
    /// Signal handlers (`CLONE_SIGHAND`).
    SignalHandlers = 4,
    /// The I/O context (`CLONE_IO`). Two tasks without one have the same.
    Io = 5,
    /// System V semaphore undo values (`CLONE_SYSVSEM`). As for `Io`.
    SemaphoreUndo = 6,
}

const KCMP_FILE: u32 = 0;
const KCMP_EPOLL_TFD: u32 = 7;

/// What was compared, in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// What two tasks share.
    Shared(Shared),
    /// Two open file descriptions.
    Files(FdNum, FdNum),
    /// An open file description and the target of an epoll item.
    EpollTarget(FdNum, EpollSlot),
}

/// `kcmp(2)` failed.
#[derive(Debug, Error)]
#[error("cannot compare {subject:?} of tasks {first} and {second}")]
pub struct Error {
    /// What was compared.
    pub subject: Subject,
    /// The first task.
    pub first: HostPid,
    /// The second task.
    pub second: HostPid,
    /// Why not. `ESRCH`: one of them is gone; `EPERM`: one of them may not be
    /// traced; `EBADF`: no such descriptor.
    pub source: Errno,
}

/// An item of an epoll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct EpollSlot {
    /// The epoll's descriptor.
    pub epoll: FdNum,
    /// The number the item was added under.
    pub target: FdNum,
    /// Which of the items added under that number: 0 is the first in the
    /// kernel's order.
    pub index: u32,
}

/// Compares what two tasks may share.
///
/// # Errors
///
/// See [`Error::source`].
pub fn shared(first: HostPid, second: HostPid, object: Shared) -> Result<Kcmp, Error> {
    let raw = [object as u32, 0, 0].map(u64::from);
    call(first, second, raw, Subject::Shared(object))
}

/// Compares the open file descriptions behind two descriptors.
///
/// # Errors
///
/// See [`Error::source`].
pub fn files(first: (HostPid, FdNum), second: (HostPid, FdNum)) -> Result<Kcmp, Error> {
    let raw = [KCMP_FILE, first.1.as_raw(), second.1.as_raw()].map(u64::from);
    call(first.0, second.0, raw, Subject::Files(first.1, second.1))
}

/// Compares the open file description behind a descriptor with the target of
/// an epoll item. The kernel searches the items one by one.
///
/// # Errors
///
/// See [`Error::source`]; also `ENOENT` if the epoll has no such item.
pub fn epoll_target(first: (HostPid, FdNum), second: (HostPid, EpollSlot)) -> Result<Kcmp, Error> {
    let slot = second.1;
    let raw_slot = [slot.epoll.as_raw(), slot.target.as_raw(), slot.index];
    let raw = [
        u64::from(KCMP_EPOLL_TFD),
        u64::from(first.1.as_raw()),
        // An address: the kernel reads struct kcmp_epoll_slot, three u32.
        raw_slot.as_ptr().expose_provenance() as u64,
    ];
    call(first.0, second.0, raw, Subject::EpollTarget(first.1, slot))
}

fn call(
    first: HostPid,
    second: HostPid,
    [kind, index1, index2]: [u64; 3],
    subject: Subject,
) -> Result<Kcmp, Error> {
    let failed = |source| Error { subject, first, second, source };
    // SAFETY: the call writes nothing. It reads user memory for
    // KCMP_EPOLL_TFD only, where `index2` is the address of a live array.
    let result = check(unsafe {
        libc::syscall(libc::SYS_kcmp, first.as_raw(), second.as_raw(), kind, index1, index2)
    });
    match result.map_err(failed)? {
        0 => Ok(Kcmp::Same),
        1 => Ok(Kcmp::Less),
        2 => Ok(Kcmp::Greater),
        _ => Ok(Kcmp::Different),
    }
}

#[cfg(test)]
mod tests {
    use super::{EpollSlot, Kcmp, Shared, epoll_target, files, shared};
    use crate::proc::ProcDir;
    use crate::sleeper::Sleeper;
    use crate::{Errno, FdNum, HostPid};
    use rustix::event::epoll;
    use std::os::fd::{AsRawFd, OwnedFd};

    fn me() -> HostPid {
        ProcDir::of_self().unwrap().pid()
    }

    fn number(fd: &OwnedFd) -> FdNum {
        FdNum::from_raw(fd.as_raw_fd().cast_unsigned())
    }

    #[test]
    fn a_duplicate_is_the_same_file() {
        let a = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let b = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let dup = a.try_clone().unwrap();
        let compare = |x, y| files((me(), number(x)), (me(), number(y))).unwrap();
        assert!(compare(&a, &dup).is_same());
        let there = compare(&a, &b).ordering().unwrap();
        assert_ne!(there, std::cmp::Ordering::Equal);
        assert_eq!(compare(&b, &a).ordering().unwrap(), there.reverse());
        assert_eq!(compare(&dup, &b).ordering().unwrap(), there);
    }

    #[test]
    fn a_parent_shares_nothing_with_its_child() {
        let mut child = Sleeper::start();
        let pid = child.pid();
        for object in [Shared::Memory, Shared::Files, Shared::Fs, Shared::SignalHandlers] {
            assert!(shared(me(), me(), object).unwrap().is_same());
            assert!(!shared(me(), pid, object).unwrap().is_same(), "{object:?}");
        }
        assert_eq!(shared(pid, pid, Shared::Io).unwrap(), Kcmp::Same);
        assert_eq!(shared(pid, pid, Shared::SemaphoreUndo).unwrap(), Kcmp::Same);
        child.reap();
        assert_eq!(shared(me(), pid, Shared::Files).unwrap_err().source, Errno::SRCH);
    }

    #[test]
    fn an_epoll_item_is_found_by_its_number() {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let a = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let b = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        epoll::add(&epoll, &a, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
        let slot = |index| EpollSlot { epoll: number(&epoll), target: number(&a), index };
        let compare = |file, index| epoll_target((me(), number(file)), (me(), slot(index)));
        assert!(compare(&a, 0).unwrap().is_same());
        assert!(!compare(&b, 0).unwrap().is_same());
        assert_eq!(compare(&a, 1).unwrap_err().source, Errno::NOENT);
    }
}
