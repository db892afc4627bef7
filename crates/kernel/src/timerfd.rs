//! Timerfds: the request that `rustix` does not wrap.
#![allow(unsafe_code)]

use crate::Errno;
use crate::sys::check;
use std::os::fd::{AsFd, AsRawFd};

/// `TFD_IOC_SET_TICKS` (`include/uapi/linux/timerfd.h`).
const SET_TICKS: libc::Ioctl = 0x4008_5400;

/// Makes it as if the timer had expired so many times, more than none, with
/// nobody reading it.
///
/// # Errors
///
/// `EINVAL` for none; `ENOTTY` if the kernel is built without
/// `CONFIG_CHECKPOINT_RESTORE`.
pub fn set_ticks(timer: impl AsFd, ticks: u64) -> Result<(), Errno> {
    let timer = timer.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one 64-bit number, which lives over the call.
    check(unsafe { libc::ioctl(timer, SET_TICKS, &raw const ticks) }.into()).map(drop)
}
