//! What is asked of a userfaultfd (`ioctl_userfaultfd(2)`). It is about the memory of the process that
//! has made it, whoever asks.
//!
//! Truth from: `include/uapi/linux/userfaultfd.h`, `fs/userfaultfd.c`.
#![allow(unsafe_code)]

use crate::sys::check;
use crate::{AddrRange, Errno, PAGE_SIZE};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

bitflags::bitflags! {
    /// Which faults in a range are reported (`UFFDIO_REGISTER_MODE_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Modes: u64 {
        /// Those in pages that are missing.
        const MISSING = 1 << 0;
        /// Stores to pages that are protected.
        const WRITE_PROTECTED = 1 << 1;
        /// Those in pages that the file has, and the process not.
        const MINOR = 1 << 2;
    }
}

/// `UFFD_USER_MODE_ONLY`, for `userfaultfd(2)`: faults of the kernel are not reported.
pub const USER_MODE_ONLY: u32 = 1;

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`, `uffdio_writeprotect` (which is shorter) and `uffdio_continue`.
#[repr(C)]
struct Request {
    start: u64,
    len: u64,
    mode: u64,
    /// The calls that are possible then, or how many bytes were mapped.
    answer: i64,
}

const UFFD_API: u64 = 0xaa;
/// `_IOWR(0xaa, 0x3f, struct uffdio_api)`.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
/// `_IOWR(0xaa, 0x00, struct uffdio_register)`.
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
/// `_IOWR(0xaa, 0x06, struct uffdio_writeprotect)`.
const UFFDIO_WRITEPROTECT: libc::c_ulong = 0xc018_aa06;
/// `_IOWR(0xaa, 0x07, struct uffdio_continue)`.
const UFFDIO_CONTINUE: libc::c_ulong = 0xc020_aa07;

/// `UFFDIO_WRITEPROTECT_MODE_WP`.
const PROTECT: u64 = 1;
/// `UFFDIO_CONTINUE_MODE_DONTWAKE`.
const DONT_WAKE: u64 = 1;

/// Makes one about this process.
///
/// # Errors
///
/// See `userfaultfd(2)`.
pub fn create(flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `UFFDIO_API`: begins to use it, with these features.
///
/// # Errors
///
/// `EINVAL`: the kernel does not have one of them, or it is in use already; `EPERM`: one takes
/// `CAP_SYS_PTRACE`.
pub fn begin(file: BorrowedFd<'_>, features: u64) -> Result<(), Errno> {
    let mut api = Api { api: UFFD_API, features, ioctls: 0 };
    // SAFETY: the kernel reads and writes a structure of this layout, which lives over the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), UFFDIO_API, &raw mut api) }.into()).map(drop)
}

/// `UFFDIO_REGISTER`: has faults in whole mappings, or parts, reported. Where the same are reported
/// to it already, nothing changes.
///
/// # Errors
///
/// `EBUSY`: they are reported to another one; `ENOMEM`: the process has ended; `EINVAL`: there is
/// nothing mapped, or what cannot be registered.
pub fn register(file: BorrowedFd<'_>, range: AddrRange, modes: Modes) -> Result<(), Errno> {
    ask(file, UFFDIO_REGISTER, range, modes.bits()).0
}

/// `UFFDIO_WRITEPROTECT`: protects pages of a range that is registered for that.
///
/// # Errors
///
/// `ENOENT`: it is not.
pub fn protect(file: BorrowedFd<'_>, range: AddrRange) -> Result<(), Errno> {
    ask(file, UFFDIO_WRITEPROTECT, range, PROTECT).0
}

/// `UFFDIO_CONTINUE`: maps pages that the file has. Those that are mapped already stay.
///
/// # Errors
///
/// `EFAULT`: the file has no such page.
pub fn map(file: BorrowedFd<'_>, range: AddrRange) -> Result<(), Errno> {
    let mut start = range.start();
    while let Some(rest) = AddrRange::new(start, range.end()).filter(|rest| !rest.is_empty()) {
        let (result, mapped) = ask(file, UFFDIO_CONTINUE, rest, DONT_WAKE);
        let done = match (result, u64::try_from(mapped)) {
            (Ok(()), _) => return Ok(()),
            // It says how far it has come, and which error it would have met next.
            (Err(Errno::AGAIN), Ok(mapped)) if mapped > 0 => mapped,
            (Err(Errno::EXIST), _) => PAGE_SIZE,
            (Err(errno), _) => return Err(errno),
        };
        start = start.checked_add(done).ok_or(Errno::RANGE)?;
    }
    Ok(())
}

fn ask(
    file: BorrowedFd<'_>,
    request: libc::c_ulong,
    range: AddrRange,
    mode: u64,
) -> (Result<(), Errno>, i64) {
    let (start, len) = (range.start().as_raw(), range.len());
    let mut asked = Request { start, len, mode, answer: 0 };
    // SAFETY: the kernel reads and writes a structure of this layout, or a shorter one, which lives
    // over the call. What becomes of memory is no other than without the call, only when.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut asked) };
    (check(result.into()).map(drop), asked.answer)
}

#[cfg(test)]
mod tests {
    use super::{Modes, USER_MODE_ONLY, begin, create, protect, register};
    use crate::{Addr, AddrRange, Errno, PAGE_SIZE};
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    use std::os::fd::AsFd;

    #[test]
    fn a_range_is_registered_with_one() {
        let len = 4 * PAGE_SIZE as usize;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, which nobody else knows of.
        let at =
            unsafe { mmap_anonymous(std::ptr::null_mut(), len, prot, MapFlags::PRIVATE) }.unwrap();
        let range = AddrRange::with_len(Addr::from_raw(at as u64), len as u64).unwrap();
        let [one, other] = [(); 2].map(|()| create(USER_MODE_ONLY).unwrap());
        assert_eq!(register(one.as_fd(), range, Modes::MISSING), Err(Errno::INVAL));
        for file in [&one, &other] {
            begin(file.as_fd(), 0).unwrap();
        }
        let both = Modes::MISSING | Modes::WRITE_PROTECTED;
        for _ in 0..2 {
            register(one.as_fd(), range, both).unwrap();
            assert_eq!(register(other.as_fd(), range, both), Err(Errno::BUSY));
        }
        protect(one.as_fd(), range).unwrap();
        drop(one);
        register(other.as_fd(), range, Modes::MISSING).unwrap();
        // SAFETY: it was mapped above, and nothing refers to it.
        unsafe { munmap(at, len) }.unwrap();
    }
}
