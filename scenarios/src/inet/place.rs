//! Addresses that no other scenario uses at the same time, and options by number.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, Protocol, SocketType, socket};

use crate::Context;

/// The loopback address and port `number` of this scenario. Ports are below those that the kernel
/// chooses from.
pub(crate) fn v4(cx: &Context, number: u16) -> SocketAddr {
    let hash = hash(cx);
    let [_, a, b, c] = (hash as u32).to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(127, a, b, c.clamp(1, 254)).into(), port(hash, number))
}

/// The same of IPv6, which has one loopback address only.
pub(crate) fn v6(cx: &Context, number: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port(hash(cx), number))
}

fn port(hash: u64, number: u16) -> u16 {
    10_000 + (hash >> 32) as u16 % 2200 * 10 + number
}

fn hash(cx: &Context) -> u64 {
    let mut hasher = DefaultHasher::new();
    cx.path("").hash(&mut hasher);
    hasher.finish()
}

/// A socket of the protocol.
pub(crate) fn inet(v6: bool, kind: SocketType, protocol: Option<Protocol>) -> OwnedFd {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    socket(family, kind, protocol).expect("socket")
}

/// Reads an option.
pub(crate) fn option(file: impl AsFd, name: (i32, i32)) -> Result<Vec<u8>, i32> {
    let mut value = vec![0_u8; 64];
    option_into(file, name, &mut value).map(|()| value)
}

/// Reads an option that asks by its value.
pub(crate) fn option_into(
    file: impl AsFd,
    (level, name): (i32, i32),
    value: &mut Vec<u8>,
) -> Result<(), i32> {
    let mut len = value.len() as libc::socklen_t;
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: at most `len` bytes are read and written.
    let result =
        unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut len) };
    value.truncate(len as usize);
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Sets an option to a number.
#[track_caller]
pub(crate) fn set(file: impl AsFd, (level, name): (i32, i32), value: i32) {
    set_bytes(file, (level, name), &value.to_ne_bytes());
}

/// Sets an option.
#[track_caller]
pub(crate) fn set_bytes(file: impl AsFd, (level, name): (i32, i32), value: &[u8]) {
    let result = try_set_bytes(file, (level, name), value);
    assert_eq!(result, Ok(()), "option {level}:{name}");
}

/// Sets an option, or says why not.
pub(crate) fn try_set_bytes(
    file: impl AsFd,
    (level, name): (i32, i32),
    value: &[u8],
) -> Result<(), i32> {
    let (fd, len) = (file.as_fd().as_raw_fd(), value.len() as libc::socklen_t);
    // SAFETY: `len` bytes are read.
    let result = unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
