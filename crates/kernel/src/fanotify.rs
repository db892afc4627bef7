//! `fanotify_init(2)` and `fanotify_mark(2)`, which `rustix` does not wrap.
#![allow(unsafe_code)]

use crate::Errno;
use crate::sys::check;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A new fanotify, which closes on exec. `flags` are `FAN_*`, and
/// `event_flags` the `O_*` of descriptors that come with its events.
///
/// # Errors
///
/// `EPERM`: this takes `CAP_SYS_ADMIN`; `EINVAL`: the kernel does not know a
/// flag, or not in this company; `EMFILE`: too many.
pub fn init(flags: u32, event_flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_fanotify_init, flags, event_flags) })?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    // `FAN_CLOEXEC` would be told by `fdinfo` ever after.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::CLOEXEC)?;
    Ok(file)
}

/// Changes a mark on what is at `path`. `flags` are `FAN_MARK_*`.
///
/// # Errors
///
/// See `fanotify_mark(2)`.
pub fn mark(file: BorrowedFd<'_>, flags: u32, mask: u64, path: &Path) -> Result<(), Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: `path` ends with a zero byte and lives over the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_fanotify_mark,
            file.as_raw_fd(),
            flags,
            mask,
            libc::AT_FDCWD,
            path.as_ptr(),
        )
    })?;
    Ok(())
}

/// Takes as many events out as there is room for, at least one, and closes the
/// descriptors that come with them. Returns the length of the last, in bytes.
///
/// # Errors
///
/// `EINVAL`: the room is too small for one.
pub fn discard(file: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize, Errno> {
    let len = rustix::io::read(file, &mut *room)?;
    let mut rest = room.get(..len).unwrap_or_default();
    let mut last = 0;
    while let Some((event, after)) = event(rest) {
        close(number(event, 16));
        // Records follow: their kind in one byte, their length in two at 2.
        let mut records = event.get(METADATA..).unwrap_or_default();
        while let [kind, _, low, high, ..] = *records {
            if kind == libc::FAN_EVENT_INFO_TYPE_PIDFD {
                close(number(records, 4));
            }
            let len = usize::from(u16::from_ne_bytes([low, high])).max(4);
            records = records.get(len..).unwrap_or_default();
        }
        last = event.len();
        rest = after;
    }
    Ok(last)
}

/// Bytes of `struct fanotify_event_metadata`, in which the length of the event
/// is at 0 and its descriptor at 16.
const METADATA: usize = 24;

/// The first event, and what is behind it.
fn event(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(number(bytes, 0)?).ok()?;
    (len >= METADATA).then(|| bytes.split_at_checked(len))?
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn close(fd: Option<RawFd>) {
    if let Some(fd) = fd.filter(|&fd| fd >= 0) {
        // SAFETY: the kernel has just made this descriptor for the event, and
        // nobody else has seen it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}
