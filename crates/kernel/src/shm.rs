//! System V shared memory segments: `shmctl(2)`, of this process's IPC namespace.
#![allow(unsafe_code)]

use std::fs;

use thiserror::Error;

use crate::{Addr, AddrRange, Errno};

/// The number of a segment, as `shmget(2)` returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(u32);

impl SegmentId {
    /// Wraps a number; `None` if it is none the kernel gives.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        if raw > i32::MAX as u32 { None } else { Some(Self(raw)) }
    }

    /// The number.
    #[must_use]
    pub const fn as_raw(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for SegmentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What `IPC_STAT` tells of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentStat {
    /// By what it is found; 0 for none.
    pub key: u32,
    /// The owner's user and group.
    pub owner: (u32, u32),
    /// Those of who made it.
    pub creator: (u32, u32),
    /// Permission bits, [`DESTROYED`](Self::DESTROYED) and [`LOCKED`](Self::LOCKED).
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// How many times it is attached.
    pub attached: u64,
}

impl SegmentStat {
    /// `SHM_DEST`: it goes when nobody has it attached any more.
    pub const DESTROYED: u32 = 0o1000;
    /// `SHM_LOCKED`: it stays in memory.
    pub const LOCKED: u32 = 0o2000;
    /// Who may do what.
    pub const PERMISSIONS: u32 = 0o777;
}

/// A call about a segment failed.
#[derive(Debug, Error)]
#[error("cannot {operation} the System V shared memory segment {id}")]
pub struct Error {
    /// What was tried.
    pub operation: &'static str,
    /// Which.
    pub id: SegmentId,
    /// The answer.
    pub source: Errno,
}

fn control(
    operation: &'static str,
    id: SegmentId,
    command: i32,
    buffer: &mut libc::shmid_ds,
) -> Result<(), Error> {
    // SAFETY: the buffer is a whole `shmid_ds`, which is all that any command reads or writes.
    let result = unsafe { libc::shmctl(id.0.cast_signed(), command, buffer) };
    if result == -1 {
        let error = std::io::Error::last_os_error();
        let source = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        return Err(Error { operation, id, source });
    }
    Ok(())
}

fn empty() -> libc::shmid_ds {
    // SAFETY: a structure of numbers, of which zero is one.
    unsafe { std::mem::zeroed() }
}

/// Looks at a segment.
///
/// # Errors
///
/// `EINVAL` and `EIDRM`: there is none with this number; `EACCES`.
pub fn stat(id: SegmentId) -> Result<SegmentStat, Error> {
    let mut buffer = empty();
    control("stat", id, libc::IPC_STAT, &mut buffer)?;
    let perm = buffer.shm_perm;
    Ok(SegmentStat {
        key: perm.__key.cast_unsigned(),
        owner: (perm.uid, perm.gid),
        creator: (perm.cuid, perm.cgid),
        mode: perm.mode.into(),
        size: buffer.shm_segsz as u64,
        attached: buffer.shm_nattch,
    })
}

/// A segment, attached to this process for as long as this lives. Nothing is read or written there.
#[derive(Debug)]
pub struct Attached {
    at: usize,
    range: AddrRange,
}

impl Attached {
    /// Attaches a segment of `len` bytes, whole pages, where the kernel likes.
    ///
    /// # Errors
    ///
    /// `EACCES`, or it is gone.
    pub fn new(id: SegmentId, len: u64) -> Result<Self, Error> {
        // SAFETY: at a free place, which the kernel chooses.
        let at = unsafe { libc::shmat(id.0.cast_signed(), std::ptr::null(), 0) }.addr();
        if at == usize::MAX {
            let error = std::io::Error::last_os_error();
            let source = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            return Err(Error { operation: "attach", id, source });
        }
        let range = AddrRange::with_len(Addr::from_raw(at as u64), len);
        Ok(Self { at, range: range.expect("the kernel mapped it") })
    }

    /// Where it is.
    #[must_use]
    pub fn range(&self) -> AddrRange {
        self.range
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: attached in `new`, and nobody has been given a pointer to it.
        unsafe { libc::shmdt(std::ptr::without_provenance(self.at)) };
    }
}

/// Gives a segment another owner and other permissions.
///
/// # Errors
///
/// `EPERM`, or it is gone.
pub fn set(id: SegmentId, (uid, gid): (u32, u32), mode: u32) -> Result<(), Error> {
    let mut buffer = empty();
    buffer.shm_perm.uid = uid;
    buffer.shm_perm.gid = gid;
    buffer.shm_perm.mode = (mode & SegmentStat::PERMISSIONS) as libc::c_ushort;
    control("change the owner of", id, libc::IPC_SET, &mut buffer)
}

/// Keeps a segment in memory.
///
/// # Errors
///
/// `EPERM`, or it is gone.
pub fn lock(id: SegmentId) -> Result<(), Error> {
    control("lock", id, libc::SHM_LOCK, &mut empty())
}

/// Removes a segment when nobody has it attached any more.
///
/// # Errors
///
/// `EPERM`, or it is gone.
pub fn remove(id: SegmentId) -> Result<(), Error> {
    control("remove", id, libc::IPC_RMID, &mut empty())
}

/// Makes the next segment that anybody makes have this number, if it is free.
///
/// # Errors
///
/// The kernel is built without `CONFIG_CHECKPOINT_RESTORE`, or `EPERM`.
pub fn choose_next(id: SegmentId) -> Result<(), Error> {
    fs::write("/proc/sys/kernel/shm_next_id", id.0.to_string()).map_err(|error| Error {
        operation: "choose the number of",
        id,
        source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(size: usize, flags: i32) -> SegmentId {
        // SAFETY: plain numbers.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, size, flags) };
        SegmentId::from_raw(id.try_into().unwrap()).unwrap()
    }

    #[test]
    fn a_segment_is_seen_changed_and_removed() {
        let id = make(5000, 0o640);
        let seen = stat(id).unwrap();
        assert_eq!((seen.key, seen.mode, seen.size), (0, 0o640, 5000));
        set(id, seen.owner, 0o600).unwrap();
        assert_eq!(stat(id).unwrap(), SegmentStat { mode: 0o600, ..seen });
        let attached = Attached::new(id, 8192).unwrap();
        remove(id).unwrap();
        let mode = 0o600 | SegmentStat::DESTROYED;
        assert_eq!(stat(id).unwrap(), SegmentStat { mode, attached: 1, ..seen });
        drop(attached);
        assert_eq!(stat(id).unwrap_err().source, Errno::INVAL);
    }
}
