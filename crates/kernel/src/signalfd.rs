//! `signalfd(2)`, which `rustix` does not wrap.
#![allow(unsafe_code)]

use crate::Errno;
use crate::signal::SigSet;
use crate::sys::check;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A new signalfd for these signals, which blocks, and closes on exec.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn signalfd(signals: SigSet) -> Result<OwnedFd, Errno> {
    let mask = signals.as_raw();
    // SAFETY: the kernel reads a mask of the length given, which lives over
    // the call.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_signalfd4,
            -1,
            &raw const mask,
            size_of_val(&mask),
            libc::SFD_CLOEXEC,
        )
    })?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
