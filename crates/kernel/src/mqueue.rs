//! POSIX message queues (`mq_overview(7)`), of this process's IPC namespace,
//! by the system calls: names are without the slash that the C library takes
//! off.
#![allow(unsafe_code)]

use crate::Errno;
use crate::sys::check;
use rustix::fs::{Mode, OFlags};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// How many priorities there are (`MQ_PRIO_MAX`).
pub const PRIORITIES: u32 = 32768;

/// What a queue takes. It never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// So many messages.
    pub messages: u64,
    /// Each of so many bytes.
    pub message_len: u64,
}

/// `struct mq_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: i64,
    messages: u64,
    message_len: u64,
    waiting: u64,
    reserved: [u64; 4],
}

/// Opens a queue.
///
/// # Errors
///
/// See `mq_open(3)`.
pub fn open(name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    // SAFETY: no attributes are passed.
    unsafe { open_with(name, flags, 0, std::ptr::null()) }
}

/// Makes a queue that is not there yet.
///
/// # Errors
///
/// `EEXIST`: it is; `EMFILE`: `RLIMIT_MSGQUEUE`; `ENOSPC` and `EINVAL`: the
/// limits in `/proc/sys/fs/mqueue`.
pub fn create(name: &CStr, mode: Mode, room: Room) -> Result<OwnedFd, Errno> {
    let Room { messages, message_len } = room;
    let attributes = Attributes { messages, message_len, ..Attributes::default() };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NONBLOCK;
    // SAFETY: the attributes live over the call.
    unsafe { open_with(name, flags, mode.as_raw_mode(), &raw const attributes) }
}

/// # Safety
///
/// `attributes` is null or points to some.
unsafe fn open_with(
    name: &CStr,
    flags: OFlags,
    mode: u32,
    attributes: *const Attributes,
) -> Result<OwnedFd, Errno> {
    // SAFETY: the name ends with a zero byte and lives over the call; for the attributes the caller
    // vouches.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_mq_open, name.as_ptr(), flags.bits(), mode, attributes)
    })?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// What a queue takes.
///
/// # Errors
///
/// `EBADF`: it is no queue, or opened with `O_PATH`.
pub fn room(queue: BorrowedFd<'_>) -> Result<Room, Errno> {
    let mut attributes = Attributes::default();
    let new = std::ptr::null::<Attributes>();
    // SAFETY: there is room for the attributes, and none are set.
    check(unsafe {
        libc::syscall(libc::SYS_mq_getsetattr, queue.as_raw_fd(), new, &raw mut attributes)
    })?;
    let Attributes { messages, message_len, .. } = attributes;
    Ok(Room { messages, message_len })
}

/// Puts a message into a queue.
///
/// # Errors
///
/// `EAGAIN`: it is full, and `O_NONBLOCK`; see `mq_send(3)`.
pub fn send(queue: BorrowedFd<'_>, message: &[u8], priority: u32) -> Result<(), Errno> {
    let for_ever = std::ptr::null::<libc::timespec>();
    // SAFETY: the message lives over the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mq_timedsend,
            queue.as_raw_fd(),
            message.as_ptr(),
            message.len(),
            priority,
            for_ever,
        )
    })?;
    Ok(())
}

/// Takes a queue's name away.
///
/// # Errors
///
/// `ENOENT`: there is none of this name; `EACCES`.
pub fn unlink(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the name ends with a zero byte and lives over the call.
    check(unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_queue_takes_what_it_was_made_for() {
        // Others may have made as many queues as there can be.
        // SAFETY: no descriptor tables are unshared.
        let _ = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWIPC) };
        let name = std::ffi::CString::new(format!("dormouse-kernel-{}", std::process::id()));
        let name = name.unwrap();
        let room = Room { messages: 2, message_len: 5 };
        let queue = match create(&name, Mode::RUSR | Mode::WUSR, room) {
            Err(Errno::NOSYS) => return,
            made => made.unwrap(),
        };
        assert_eq!(create(&name, Mode::RUSR, room).err(), Some(Errno::EXIST));
        let again = open(&name, OFlags::WRONLY | OFlags::NONBLOCK).unwrap();
        unlink(&name).unwrap();
        assert_eq!(unlink(&name), Err(Errno::NOENT));
        assert_eq!(super::room(queue.as_fd()), Ok(room));
        assert_eq!(send(queue.as_fd(), b"longer", 0), Err(Errno::MSGSIZE));
        assert_eq!(send(queue.as_fd(), b"", PRIORITIES), Err(Errno::INVAL));
        assert_eq!(send(queue.as_fd(), b"short", PRIORITIES - 1), Ok(()));
        assert_eq!(send(again.as_fd(), b"", 0), Ok(()));
        assert_eq!(send(again.as_fd(), b"", 0), Err(Errno::AGAIN));
    }
}
