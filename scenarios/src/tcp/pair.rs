//! Two ends of a connection, and how they are made.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::Context;

/// What the checkpointer is told.
pub(crate) const OPTIONS: &[&str] = &["--tcp-established", "--network-lock=nftables"];

/// How two ends can be told from others.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    V4,
    V6,
    /// IPv4 by sockets of IPv6.
    Mapped,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Mapped];
}

/// An address that no other scenario uses at the same time. Ports are below those that the kernel
/// chooses from.
pub(super) fn place(cx: &Context, way: Way, number: u16) -> SocketAddr {
    let mut hasher = DefaultHasher::new();
    cx.path("").hash(&mut hasher);
    let hash = hasher.finish();
    let [_, a, b, c] = (hash as u32).to_be_bytes();
    let v4 = Ipv4Addr::new(127, a, b, c.clamp(1, 254));
    let ip: IpAddr = match way {
        Way::V4 => v4.into(),
        Way::V6 => Ipv6Addr::LOCALHOST.into(),
        Way::Mapped => v4.to_ipv6_mapped().into(),
    };
    SocketAddr::new(ip, 10_000 + (hash >> 32) as u16 % 2200 * 10 + number)
}

/// A listener, and both ends of a connection: the one that asked for it first.
pub(super) fn connected(
    cx: &Context,
    way: Way,
    number: u16,
) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind(place(cx, way, number)).expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    for end in [&client, &server] {
        end.set_read_timeout(Some(Duration::from_secs(15))).expect("a time-out");
    }
    (listener, client, server)
}

/// An option, as the kernel gives it.
pub(super) fn option(file: impl AsFd, (level, name): (i32, i32)) -> Result<Vec<u8>, i32> {
    let mut value = vec![0_u8; 64];
    let mut len = value.len() as libc::socklen_t;
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: at most `len` bytes are written.
    let result =
        unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut len) };
    value.truncate(len as usize);
    if result == 0 {
        Ok(value)
    } else {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

/// Sets an option to a number.
#[track_caller]
pub(super) fn set(file: impl AsFd, (level, name): (i32, i32), value: i32) {
    let len = size_of::<i32>() as libc::socklen_t;
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: `len` bytes are read.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) };
    assert_eq!(result, 0, "option {level}:{name}");
}

/// The state of a connection (`include/net/tcp_states.h`).
pub(super) fn state(file: impl AsFd) -> Option<u8> {
    option(file, (libc::IPPROTO_TCP, libc::TCP_INFO)).ok().map(|info| info[0])
}
