//! Safe wrappers of the raw calls that several scenarios make.

mod memory;
mod process;
mod signal;

pub(crate) use memory::{Area, PAGE, page_frames};
pub(crate) use process::{
    CPath, Clone3, begin, capture_status, clone3, credentials, exit, fork, gettid, nap, parent,
    state, wait_siginfo, wait_status,
};
pub(crate) use signal::{
    Action, SigInfo, block, blocked, handle, pending, queue, rt_sigaction, sigset, unblock,
};

use std::io;

/// The result of a raw libc call: `errno` where it is -1.
pub(crate) fn done(result: impl Into<i64>) -> io::Result<i64> {
    match result.into() {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}
