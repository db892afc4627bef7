//! Inodes by handle: `name_to_handle_at(2)` and `open_by_handle_at(2)`.
//!
//! inotify and fanotify show what they watch as handles, not as paths.
#![allow(unsafe_code)]

use crate::proc::FileHandle;
use crate::sys::check;
use crate::{Errno, FdNum};
use rustix::fs::OFlags;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A handle was of no use.
#[derive(Debug, Error)]
pub enum Error {
    /// `open_by_handle_at(2)` failed.
    #[error("cannot open {handle:?} on the file system of descriptor {mount}")]
    Open {
        /// The handle.
        handle: FileHandle,
        /// The descriptor that told the file system.
        mount: FdNum,
        /// Why not. `ESTALE`: there is no such inode (any more); `EPERM`:
        /// `CAP_DAC_READ_SEARCH` is missing; `EOPNOTSUPP`: the file system
        /// opens no handles.
        source: Errno,
    },
    /// `name_to_handle_at(2)` failed.
    #[error("cannot get a handle of {}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Why not. `EOPNOTSUPP`: the file system has no handles.
        source: Errno,
    },
    /// More bytes than any file system uses.
    #[error("a handle of {len} bytes is too long")]
    TooLong {
        /// How many.
        len: usize,
    },
}

/// `MAX_HANDLE_SZ`.
const MAX_BYTES: usize = 128;

/// `struct file_handle`, with room for any.
#[repr(C)]
struct RawHandle {
    len: u32,
    kind: i32,
    bytes: [u8; MAX_BYTES],
}

/// Opens the inode behind a handle. `mount` is any descriptor on its file
/// system, but no `O_PATH` one; what is opened is seen below that mount.
///
/// # Errors
///
/// See [`Error`].
pub fn open_by_handle(
    mount: impl AsFd,
    handle: &FileHandle,
    flags: OFlags,
) -> Result<OwnedFd, Error> {
    let mount = mount.as_fd().as_raw_fd();
    let mut raw = RawHandle { len: 0, kind: handle.kind, bytes: [0; MAX_BYTES] };
    let Some(room) = raw.bytes.get_mut(..handle.bytes.len()) else {
        return Err(Error::TooLong { len: handle.bytes.len() });
    };
    room.copy_from_slice(&handle.bytes);
    raw.len = handle.bytes.len() as u32;
    let flags = (flags | OFlags::CLOEXEC).bits();
    // SAFETY: `raw` is a `file_handle` of the length it says, only read.
    let opened =
        check(unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount, &raw const raw, flags) });
    match opened {
        // SAFETY: the kernel has just made this descriptor, so nobody else
        // owns it.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        Err(source) => Err(Error::Open {
            handle: handle.clone(),
            mount: FdNum::from_raw(mount.cast_unsigned()),
            source,
        }),
    }
}

/// The handle of a file, and the number of the mount it was found on. A
/// symbolic link at the end is not followed.
///
/// # Errors
///
/// See [`Error`].
pub fn handle_of(path: &Path) -> Result<(FileHandle, i32), Error> {
    let failed = |source| Error::Name { path: path.to_owned(), source };
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(Errno::INVAL))?;
    let mut raw = RawHandle { len: MAX_BYTES as u32, kind: 0, bytes: [0; MAX_BYTES] };
    let mut mount_id = 0i32;
    // SAFETY: `name` ends with a zero byte; `raw` has room for the bytes it
    // says, and `mount_id` for an int.
    check(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount_id,
            0,
        )
    })
    .map_err(failed)?;
    let bytes = raw.bytes.get(..raw.len as usize).ok_or_else(|| failed(Errno::OVERFLOW))?;
    Ok((FileHandle { kind: raw.kind, bytes: bytes.into() }, mount_id))
}

#[cfg(test)]
mod tests {
    use super::{Error, handle_of, open_by_handle};
    use crate::Errno;
    use crate::proc::{Extra, FileHandle, ProcDir};
    use rustix::fs::{Mode, OFlags};
    use std::path::Path;

    #[test]
    fn a_watch_leads_back_to_its_file() {
        use rustix::fs::inotify;
        let watcher = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watcher, "/etc/passwd", inotify::WatchFlags::MODIFY).unwrap();
        let number =
            crate::FdNum::from_raw(std::os::fd::AsRawFd::as_raw_fd(&watcher).cast_unsigned());
        let Extra::Inotify(watches) = ProcDir::of_self().unwrap().fdinfo(number).unwrap().extra
        else {
            panic!("an inotify");
        };
        let handle = watches[0].handle.as_ref().unwrap();
        let (same, mount_id) = handle_of(Path::new("/etc/passwd")).unwrap();
        assert_eq!(*handle, same);
        let mounts = ProcDir::of_self().unwrap().mounts().unwrap();
        assert!(mounts.iter().any(|mount| mount.id == mount_id));

        let root = rustix::fs::open("/", OFlags::DIRECTORY, Mode::empty()).unwrap();
        let file = open_by_handle(&root, handle, OFlags::PATH).unwrap();
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        assert_eq!(std::fs::read_link(link).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn a_handle_of_nothing_is_an_error() {
        let root = rustix::fs::open("/", OFlags::DIRECTORY, Mode::empty()).unwrap();
        let stale = FileHandle { kind: 1, bytes: Box::new([0xff; 8]) };
        let error = open_by_handle(&root, &stale, OFlags::PATH).unwrap_err();
        assert!(matches!(error, Error::Open { source: Errno::STALE, .. }), "{error:?}");
        let long = FileHandle { kind: 1, bytes: Box::new([0; 129]) };
        let error = open_by_handle(&root, &long, OFlags::PATH).unwrap_err();
        assert!(matches!(error, Error::TooLong { len: 129 }));
        let error = handle_of(Path::new("/proc/self")).unwrap_err();
        assert!(matches!(error, Error::Name { .. }));
    }
}
