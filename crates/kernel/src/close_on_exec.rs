//! What a program that is started gets of this process's descriptors.
#![allow(unsafe_code)]

use crate::sys::check;
use crate::{Errno, FdNum};

/// Marks all of this process's descriptors from `first` on as close-on-exec:
/// a program started from now on does not get them. Nothing is closed here.
///
/// # Errors
/// `ENOSYS` or `EINVAL` before Linux 5.11; see `close_range(2)`.
pub fn close_on_exec_from(first: FdNum) -> Result<(), Errno> {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing, so whoever owns one of the
    // descriptors goes on owning an open one.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first.as_raw(), u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })
    .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::close_on_exec_from;
    use crate::FdNum;
    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
    use std::os::fd::AsRawFd;

    #[test]
    fn descriptors_are_marked_and_stay_open() {
        let low = rustix::fs::memfd_create("low", rustix::fs::MemfdFlags::empty()).unwrap();
        let high = rustix::fs::memfd_create("high", rustix::fs::MemfdFlags::empty()).unwrap();
        assert!(low.as_raw_fd() < high.as_raw_fd());
        close_on_exec_from(FdNum::from_raw(high.as_raw_fd().cast_unsigned())).unwrap();
        assert_eq!(fcntl_getfd(&low).unwrap(), FdFlags::empty());
        assert_eq!(fcntl_getfd(&high).unwrap(), FdFlags::CLOEXEC);
        fcntl_setfd(&high, FdFlags::empty()).unwrap();
    }
}
