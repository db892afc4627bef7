//! `signalfd(2)`, which `rustix` does not wrap.
#![allow(unsafe_code)]

use crate::Errno;
use crate::signal::SigSet;
use crate::sys::check;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A new signalfd for these signals, which blocks, and closes on exec.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn signalfd(signals: SigSet) -> Result<OwnedFd, Errno> {
    let fd = call(-1, signals)?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has a signalfd be for these signals, and no others.
///
/// # Errors
///
/// `EINVAL`: it is none.
pub fn set_signals(file: BorrowedFd<'_>, signals: SigSet) -> Result<(), Errno> {
    call(file.as_raw_fd(), signals).map(drop)
}

fn call(fd: RawFd, signals: SigSet) -> Result<RawFd, Errno> {
    let mask = signals.as_raw();
    // SAFETY: the kernel reads a mask of the length given, which lives over
    // the call.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_signalfd4,
            fd,
            &raw const mask,
            size_of_val(&mask),
            libc::SFD_CLOEXEC,
        )
    })?;
    Ok(fd as RawFd)
}
