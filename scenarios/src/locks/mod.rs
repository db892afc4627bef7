//! Locks of files, and leases.

pub(crate) mod flock;
pub(crate) mod lease;
pub(crate) mod lease_breaking;
pub(crate) mod open_file;
pub(crate) mod posix;
pub(crate) mod unasked;

use std::fs::File;
use std::os::fd::AsRawFd;

/// `struct flock`: kind, first byte, bytes (0 for all), holder.
type Range = (i32, i64, i64, i32);

fn fcntl(file: &File, command: i32, (kind, start, len, pid): Range) -> Result<Range, i32> {
    let mut lock = libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: pid,
    };
    // SAFETY: the commands given read and write one `struct flock`, which lives over the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        _ => Ok((lock.l_type.into(), lock.l_start, lock.l_len, lock.l_pid)),
    }
}

/// A request with a plain number.
fn number(file: &File, command: i32, argument: i32) -> Result<i32, i32> {
    // SAFETY: the commands given take a number, or nothing.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        result => Ok(result),
    }
}

fn flock(file: &File, how: i32) -> Result<(), i32> {
    // SAFETY: plain numbers.
    match unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        _ => Ok(()),
    }
}

fn open(path: &std::path::Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).expect("open")
}
