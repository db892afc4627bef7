//! What the kernel keeps of a file in memory: `cachestat(2)`.
#![allow(unsafe_code)]

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use crate::Errno;
use crate::sys::check;

/// The same number on all architectures (`include/uapi/asm-generic/unistd.h`).
const SYS_CACHESTAT: libc::c_long = 451;

/// `struct cachestat_range`, in bytes. No length means all that follows.
#[repr(C)]
struct Asked {
    offset: u64,
    len: u64,
}

/// `struct cachestat`, in pages.
#[repr(C)]
#[derive(Default)]
struct Told {
    cached: u64,
    dirty: u64,
    written_back: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// How many pages of this range (in bytes, not empty) of a file of a tmpfs are allocated, whether
/// they were ever written or not: those in memory and those in swap.
///
/// # Errors
///
/// `ENOSYS` before Linux 6.5; `EPERM` without the right to write the file, since 6.14; `EOPNOTSUPP`
/// for huge pages.
pub fn allocated(file: impl AsFd, range: Range<u64>) -> Result<u64, Errno> {
    let asked = Asked { offset: range.start, len: range.end.saturating_sub(range.start).max(1) };
    let mut told = Told::default();
    let (fd, flags) = (file.as_fd().as_raw_fd(), 0);
    // SAFETY: the kernel reads a struct cachestat_range and writes a struct cachestat, which these
    // are.
    check(unsafe { libc::syscall(SYS_CACHESTAT, fd, &raw const asked, &raw mut told, flags) })?;
    Ok(told.cached + told.evicted)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

    use super::allocated;
    use crate::{Errno, PAGE_SIZE};

    #[test]
    fn pages_that_were_never_written_are_allocated() {
        let file = memfd_create("pages", MemfdFlags::CLOEXEC).unwrap();
        match allocated(&file, 0..PAGE_SIZE) {
            Err(Errno::NOSYS) => return,
            empty => assert_eq!(empty, Ok(0)),
        }
        let len = 3 * PAGE_SIZE;
        fallocate(&file, FallocateFlags::KEEP_SIZE, PAGE_SIZE, len).unwrap();
        assert_eq!(allocated(&file, 0..i64::MAX as u64), Ok(3));
        assert_eq!(allocated(&file, 0..2 * PAGE_SIZE), Ok(1));
        assert_eq!(allocated(&file, 0..PAGE_SIZE), Ok(0));
    }
}
