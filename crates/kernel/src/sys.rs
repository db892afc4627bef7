//! What all raw system calls here share.

use crate::Errno;
use std::io;

/// The result of `libc::syscall`: -1 means the error is in `errno`.
pub(crate) fn check(result: libc::c_long) -> Result<u64, Errno> {
    if result == -1 {
        let error = io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(result.cast_unsigned())
}
