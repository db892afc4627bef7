//! Reading files without a trace.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens a file for reading, so that this does not show in its access time: `open` gets the flags.
/// Only the owner of a file, and the superuser, can have that; for all others it is read like any
/// file.
pub(crate) fn open_unseen<E>(
    open: impl Fn(OFlags) -> Result<OwnedFd, E>,
    errno: impl Fn(&E) -> Option<Errno>,
) -> Result<OwnedFd, E> {
    match open(OFlags::RDONLY | OFlags::NOATIME) {
        Err(error) if errno(&error) == Some(Errno::PERM) => open(OFlags::RDONLY),
        opened => opened,
    }
}
