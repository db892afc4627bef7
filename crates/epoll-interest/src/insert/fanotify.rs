//! The calls about fanotifies that `rustix` does not wrap.
//!
//! # Safety
//! The kernel reads paths that end with a zero byte, and descriptors that come
//! with events are nobody else's.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Has the group report that the directory at the path is opened.
pub(super) fn mark(group: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    change(group, libc::FAN_MARK_ADD, path)
}

/// Takes that back.
pub(super) fn unmark(group: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    change(group, libc::FAN_MARK_REMOVE, path)
}

fn change(group: BorrowedFd<'_>, flags: libc::c_uint, path: &str) -> io::Result<()> {
    let path = CString::new(path).map_err(io::Error::other)?;
    let (group, at) = (group.as_raw_fd(), libc::AT_FDCWD);
    let events = libc::FAN_OPEN | libc::FAN_ONDIR;
    // SAFETY: the path ends with a zero byte and lives over the call.
    let result =
        unsafe { libc::syscall(libc::SYS_fanotify_mark, group, flags, events, at, path.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes events out, at least one.
pub(super) fn discard(group: BorrowedFd<'_>) -> io::Result<()> {
    // `struct fanotify_event_metadata`: its length, ..., the descriptor, the process.
    const DESCRIPTOR: usize = 16;
    let mut room = [0; 4096];
    let len = rustix::io::read(group, &mut room)?;
    let mut rest = &room[..len];
    while let Some(head) = rest.first_chunk::<24>() {
        let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|byte| head[at + byte]));
        let fd = word(DESCRIPTOR).cast_signed();
        if fd >= 0 {
            // SAFETY: the kernel has just given it to this call.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        rest = rest.get((word(0) as usize).max(head.len())..).unwrap_or_default();
    }
    Ok(())
}
