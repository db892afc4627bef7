//! Locks of files, and leases.
//!
//! Kernel object: `struct file_lock`, `struct file_lease`.
//! Truth from: the `lock:` lines of `/proc/PID/fdinfo`, which tell of each
//! descriptor what its table (`F_SETLK`) or its open file description (the
//! others) holds through it. `/proc/locks` tells no more, and not whose a lock
//! is.
//! Image: `filelocks.img`. CRIU gives each lock to one task and descriptor.
//! Create: the task takes it, by its own descriptor, before it is given its
//! credentials. A lease that was being broken is taken whole, and broken by an
//! open that does not wait.
//! Not preserved: what is left of the time to give a lease up
//! (`/proc/sys/fs/lease-break-time`), which begins anew; the order of those who
//! wait, as each makes its call again.
//! Kernel needed: 4.2, whose fdinfo has all of them.
//! Scenarios: `locks::*`, `syscalls::fcntl_lock`, `syscalls::flock`.

use std::collections::BTreeSet;

use dormouse_image::proto::file_lock::FileLockEntry;
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::proc::{FileLock, LeaseState, LockKind, LockMode};
use dormouse_kernel::{FdNum, HostPid, NsPid};
use dormouse_puppet::{Batch, Data, Slot};
use rustix::fs::OFlags;

use super::{FileId, Sighting};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// What owns a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// An fd table, and so a process: `F_SETLK`.
    Posix,
    /// An open file description: `flock(2)`.
    Flock,
    /// An open file description: `F_OFD_SETLK`.
    OpenFile,
    /// An open file description: `F_SETLEASE`.
    Lease {
        /// It is being broken: its mode is what will be left.
        breaking: bool,
    },
}

/// A lock that some task holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    kind: Kind,
    mode: LockMode,
    /// A task that holds it.
    pub task: NsPid,
    /// The descriptor there that it holds it by.
    pub fd: FdNum,
    /// The first byte.
    start: i64,
    /// Bytes, 0 for all there will ever be.
    len: i64,
}

/// CRIU's numbers for kinds of locks.
const POSIX: u32 = 1;
const FLOCK: u32 = 2;
const OPEN_FILE: u32 = 4;
const LEASE: u32 = 8;
/// What CRIU adds to the mode of a lease that is being broken.
const BREAKING: u32 = 4;

/// The locks of a tree, as they are found.
#[derive(Debug, Default)]
pub struct Locks {
    locks: Vec<Lock>,
    seen: BTreeSet<(Option<HostPid>, FileId)>,
}

impl Locks {
    /// Adds those that `owner`, which stands for its fd table, holds by `fd`,
    /// which is `file`. Tables come one after the other.
    ///
    /// # Errors
    /// Among them is one that no program can ask for.
    pub fn add(
        &mut self,
        owner: HostPid,
        fd: FdNum,
        (file, sighting): (FileId, &Sighting),
    ) -> Result<()> {
        if sighting.info.locks.is_empty() {
            return Ok(());
        }
        let of_file = self.seen.insert((None, file));
        let of_table = self.seen.insert((Some(owner), file));
        for lock in &sighting.info.locks {
            let FileLock { kind, mode, pid: _, device: _, inode: _, start, last } = *lock;
            let kind = match kind {
                LockKind::Posix => Kind::Posix,
                LockKind::Flock => Kind::Flock,
                LockKind::OpenFile => Kind::OpenFile,
                LockKind::Lease(state) => Kind::Lease { breaking: state != LeaseState::Active },
                LockKind::Delegation(_) => {
                    return Err(Error::Unsupported {
                        object: "a delegated file",
                        detail: sighting.link.clone().into(),
                        reason: "only a file server is given delegations",
                        hint: "stop the NFS server first",
                    });
                }
            };
            if if kind == Kind::Posix { of_table } else { of_file } {
                let task = NsPid::from_raw(owner.as_raw()).expect("a host pid is positive");
                let len = last.map_or(0, |last| last - start + 1);
                self.locks.push(Lock { kind, mode, task, fd, start, len });
            }
        }
        Ok(())
    }

    /// The task and descriptor of one that is held, if there is any.
    #[must_use]
    pub fn first(&self) -> Option<(HostPid, FdNum)> {
        let lock = self.locks.first()?;
        Some((HostPid::from_raw(lock.task.as_raw())?, lock.fd))
    }

    /// Writes them; nothing if there are none.
    ///
    /// # Errors
    /// The image cannot be written.
    pub fn encode(&self, dump: &NewPart) -> Result<()> {
        if self.locks.is_empty() {
            return Ok(());
        }
        let entries: Vec<_> = self.locks.iter().map(Lock::encode).collect();
        Ok(dump.put_all(ImageName::FileLocks, &entries)?)
    }
}

/// `struct flock`, as the kernel has it on machines of 64 bits.
fn flock(mode: LockMode, start: i64, len: i64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&(number(mode) as u16).to_ne_bytes());
    bytes[8..16].copy_from_slice(&start.to_ne_bytes());
    bytes[16..24].copy_from_slice(&len.to_ne_bytes());
    bytes
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<libc::flock>() == 32);
    assert!(offset_of!(libc::flock, l_start) == 8 && offset_of!(libc::flock, l_len) == 16);
};

/// `F_RDLCK` and its like.
const fn number(mode: LockMode) -> u32 {
    match mode {
        LockMode::Read => 0,
        LockMode::Write => 1,
        LockMode::Unlock => 2,
    }
}

impl Lock {
    fn encode(&self) -> FileLockEntry {
        let Self { kind, mode, task, fd, start, len } = *self;
        let (flag, breaking) = match kind {
            Kind::Posix => (POSIX, 0),
            Kind::Flock => (FLOCK, 0),
            Kind::OpenFile => (OPEN_FILE, 0),
            Kind::Lease { breaking } => (LEASE, if breaking { BREAKING } else { 0 }),
        };
        FileLockEntry {
            flag,
            kind: number(mode) | breaking,
            pid: task.as_raw(),
            fd: fd.as_raw().cast_signed(),
            start,
            len,
        }
    }

    fn decode(entry: &FileLockEntry) -> Result<Self> {
        let FileLockEntry { flag, kind: mode, pid, fd, start, len } = *entry;
        let wrong = |reason| corrupt(ImageName::FileLocks, "lock", pid.unsigned_abs(), reason);
        let task = NsPid::from_raw(pid).ok_or_else(|| wrong("nobody holds it"))?;
        let fd = u32::try_from(fd).map_err(|_| wrong("it is held by no descriptor"))?;
        let kind = match flag {
            POSIX => Kind::Posix,
            FLOCK => Kind::Flock,
            OPEN_FILE => Kind::OpenFile,
            LEASE => Kind::Lease { breaking: mode & BREAKING != 0 },
            _ => return Err(wrong("its kind is none")),
        };
        let mode = match (kind, mode) {
            (_, 0) => LockMode::Read,
            (_, 1) => LockMode::Write,
            (Kind::Lease { breaking: true }, 4) => LockMode::Read,
            (Kind::Lease { breaking: true }, 6) => LockMode::Unlock,
            _ => return Err(wrong("it locks nothing")),
        };
        if start < 0 || len < 0 || start.checked_add(len).is_none() {
            return Err(wrong("it locks no bytes of any file"));
        }
        Ok(Self { kind, mode, task, fd: FdNum::from_raw(fd), start, len })
    }

    /// Reads all of a checkpoint.
    ///
    /// # Errors
    /// The image is damaged.
    pub fn decode_all(dir: &ImageDir) -> Result<Vec<Self>> {
        let entries: Vec<FileLockEntry> = dir.get_all(ImageName::FileLocks)?;
        entries.iter().map(Self::decode).collect()
    }

    /// With which access the file has to be opened, by anybody and without
    /// waiting, once the lease is held: only that breaks it.
    #[must_use]
    pub fn broken_by(&self) -> Option<OFlags> {
        match (self.kind, self.mode) {
            (Kind::Lease { breaking: true }, LockMode::Read) => Some(OFlags::RDONLY),
            (Kind::Lease { breaking: true }, _) => Some(OFlags::WRONLY),
            _ => None,
        }
    }

    /// Has the task take it, by a file that was opened with `flags`.
    pub fn take(&self, batch: &mut Batch, flags: OFlags) -> Slot {
        // include/uapi/asm-generic/fcntl.h
        const F_SETLEASE: i32 = 1024;
        let Self { kind, mode, task: _, fd, start, len } = *self;
        let fd = fd.as_raw();
        let mut range =
            |command: i32| -> (i32, Data) { (command, batch.data(&flock(mode, start, len))) };
        let (command, argument) = match kind {
            Kind::Posix => range(libc::F_SETLK),
            Kind::OpenFile => range(libc::F_OFD_SETLK),
            Kind::Flock => {
                let how = if mode == LockMode::Read { libc::LOCK_SH } else { libc::LOCK_EX };
                return batch.call(libc::SYS_flock, [fd.into(), (how | libc::LOCK_NB).into()]);
            }
            Kind::Lease { breaking } => {
                let reads = flags & OFlags::ACCMODE == OFlags::RDONLY;
                let whole = if reads { LockMode::Read } else { LockMode::Write };
                let mode = number(if breaking { whole } else { mode });
                let args = [fd.into(), F_SETLEASE.into(), mode.into()];
                return batch.call(libc::SYS_fcntl, args);
            }
        };
        batch.call(libc::SYS_fcntl, [fd.into(), command.into(), argument.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let lock = |kind, mode, len| Lock {
            kind,
            mode,
            task: NsPid::from_raw(7).unwrap(),
            fd: FdNum::from_raw(3),
            start: 5,
            len,
        };
        for lock in [
            lock(Kind::Posix, LockMode::Read, 10),
            lock(Kind::OpenFile, LockMode::Write, 0),
            lock(Kind::Flock, LockMode::Write, 0),
            lock(Kind::Lease { breaking: false }, LockMode::Write, 0),
            lock(Kind::Lease { breaking: true }, LockMode::Read, 0),
            lock(Kind::Lease { breaking: true }, LockMode::Unlock, 0),
        ] {
            assert_eq!(Lock::decode(&lock.encode()).unwrap(), lock);
        }
    }

    #[test]
    fn what_locks_nothing_is_refused() {
        let good = FileLockEntry { flag: POSIX, kind: 0, pid: 1, fd: 0, start: 0, len: 1 };
        assert!(Lock::decode(&good).is_ok());
        for bad in [
            FileLockEntry { flag: 3, ..good.clone() },
            FileLockEntry { kind: 2, ..good.clone() },
            FileLockEntry { pid: 0, ..good.clone() },
            FileLockEntry { fd: -1, ..good.clone() },
            FileLockEntry { start: -1, ..good.clone() },
            FileLockEntry { start: i64::MAX, ..good.clone() },
        ] {
            assert!(Lock::decode(&bad).is_err(), "{bad:?}");
        }
    }
}
