//! Addresses of unix sockets, byte for byte.
#![allow(unsafe_code)]

use crate::Errno;
use crate::sys::check;
use std::os::fd::{AsFd, AsRawFd};

/// What `sun_path` has: a path, with or without its NUL; an abstract name,
/// which begins with one; or nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixAddress {
    raw: [u8; size_of::<libc::sockaddr_un>()],
    len: usize,
}

const FAMILY: usize = size_of::<libc::sa_family_t>();

impl UnixAddress {
    /// `None` if it is longer than any address can be. A path that leaves no
    /// room for its NUL does without.
    #[must_use]
    pub fn new(path: &[u8]) -> Option<Self> {
        let mut raw = [0; size_of::<libc::sockaddr_un>()];
        let room = raw.len() - FAMILY;
        let path = match path.split_last() {
            Some((0, path)) if path.len() == room && path[0] != 0 => path,
            _ => path,
        };
        raw[..FAMILY].copy_from_slice(&(libc::AF_UNIX as libc::sa_family_t).to_ne_bytes());
        raw.get_mut(FAMILY..FAMILY + path.len())?.copy_from_slice(path);
        Some(Self { raw, len: FAMILY + path.len() })
    }

    /// As system calls take it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw[..self.len]
    }
}

/// Binds a socket to an address.
///
/// # Errors
/// What `bind(2)` says.
pub fn bind(socket: impl AsFd, address: &UnixAddress) -> Result<(), Errno> {
    let bytes = address.as_bytes();
    let len = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of an address, which are there.
    check(unsafe { libc::bind(socket.as_fd().as_raw_fd(), bytes.as_ptr().cast(), len) }.into())
        .map(drop)
}

/// Connects a socket to an address.
///
/// # Errors
/// What `connect(2)` says.
pub fn connect(socket: impl AsFd, address: &UnixAddress) -> Result<(), Errno> {
    let bytes = address.as_bytes();
    let len = bytes.len() as libc::socklen_t;
    // SAFETY: as for `bind`.
    check(unsafe { libc::connect(socket.as_fd().as_raw_fd(), bytes.as_ptr().cast(), len) }.into())
        .map(drop)
}

/// Takes back the connection of a datagram socket.
///
/// # Errors
/// What `connect(2)` says.
pub fn disconnect(socket: impl AsFd) -> Result<(), Errno> {
    let nobody = (libc::AF_UNSPEC as libc::sa_family_t).to_ne_bytes();
    let len = nobody.len() as libc::socklen_t;
    // SAFETY: as for `bind`.
    check(unsafe { libc::connect(socket.as_fd().as_raw_fd(), nobody.as_ptr().cast(), len) }.into())
        .map(drop)
}

/// The address of a unix socket's peer, as [`UnixAddress::new`] takes it; the
/// peer may have closed. Empty if it has none.
///
/// # Errors
/// `ENOTCONN`: it has no peer.
pub fn peer_name(socket: impl AsFd) -> Result<Vec<u8>, Errno> {
    let mut raw = [0_u8; size_of::<libc::sockaddr_storage>()];
    let mut len = size_of_val(&raw) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `len` bytes of an address, for which
    // there is room, and their number.
    check(unsafe { libc::getpeername(fd, raw.as_mut_ptr().cast(), &raw mut len) }.into())?;
    Ok(raw.get(FAMILY..len as usize).unwrap_or_default().to_vec())
}
