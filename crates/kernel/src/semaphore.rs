//! System V semaphores: `semctl(2)`, of this process's IPC namespace.
#![allow(unsafe_code)]

use thiserror::Error;

use crate::Errno;

/// The number of a set of semaphores, as `semget(2)` returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(i32);

impl SetId {
    /// Wraps a number; `None` if it is none the kernel gives.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Option<Self> {
        if raw < 0 { None } else { Some(Self(raw)) }
    }

    /// The number.
    #[must_use]
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

impl std::fmt::Display for SetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The greatest value of a semaphore (`SEMVMX`).
pub const MOST: i32 = 32767;

/// A set of semaphores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// By what it is found; 0 for none.
    pub key: u32,
    /// The values, one for each semaphore.
    pub values: Vec<u16>,
}

/// A call about semaphores failed.
#[derive(Debug, Error)]
#[error("cannot {operation} System V semaphores")]
pub struct Error {
    /// What was tried.
    pub operation: &'static str,
    /// The answer.
    pub source: Errno,
}

/// # Safety
///
/// `argument` is what the command takes, with room for what it writes.
unsafe fn control(
    operation: &'static str,
    id: i32,
    command: i32,
    argument: *mut libc::c_void,
) -> Result<(), Error> {
    // SAFETY: the caller vouches for it.
    if unsafe { libc::semctl(id, 0, command, argument) } == -1 {
        let error = std::io::Error::last_os_error();
        let source = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        return Err(Error { operation, source });
    }
    Ok(())
}

/// Whether there is any set at all.
///
/// # Errors
///
/// The kernel has no System V IPC.
pub fn exist() -> Result<bool, Error> {
    // SAFETY: a structure of numbers, of which zero is one.
    let mut info: libc::seminfo = unsafe { std::mem::zeroed() };
    // SAFETY: the command fills a whole `seminfo`.
    unsafe { control("count", 0, libc::SEM_INFO, (&raw mut info).cast()) }?;
    Ok(info.semusz != 0)
}

/// Looks at a set.
///
/// # Errors
///
/// `EINVAL` and `EIDRM`: there is none with this number; `EACCES`.
pub fn look(id: SetId) -> Result<Set, Error> {
    // SAFETY: a structure of numbers, of which zero is one.
    let mut stat: libc::semid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the command fills a whole `semid_ds`.
    unsafe { control("stat", id.0, libc::IPC_STAT, (&raw mut stat).cast()) }?;
    let mut values = vec![0_u16; stat.sem_nsems as usize];
    // SAFETY: the number of semaphores of a set never changes, nor is its number given to another
    // before thousands of sets have come and gone; the command writes one value for each.
    unsafe { control("read", id.0, libc::GETALL, values.as_mut_ptr().cast()) }?;
    Ok(Set { key: stat.sem_perm.__key.cast_unsigned(), values })
}
