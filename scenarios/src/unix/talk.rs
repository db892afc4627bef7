//! Sockets and messages, as the scenarios here use them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg,
};

use crate::Context;

pub(super) const STREAM: SocketType = SocketType::STREAM;
pub(crate) const DATAGRAM: SocketType = SocketType::DGRAM;
pub(super) const SEQPACKET: SocketType = SocketType::SEQPACKET;

/// Two sockets connected to each other, which never block.
pub(crate) fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).expect("socketpair")
}

/// A socket, which never blocks.
pub(crate) fn socket(kind: SocketType) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).expect("socket")
}

pub(crate) fn path(path: &Path) -> SocketAddrUnix {
    SocketAddrUnix::new(path).expect("a short path")
}

/// An abstract name that no other process uses.
pub(crate) fn hidden(cx: &Context, name: &str) -> SocketAddrUnix {
    // Each scenario has a directory of its own.
    let name = format!("dormouse {}", cx.path(name).display());
    SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("a short name")
}

/// A socket bound to an address.
pub(crate) fn bound(kind: SocketType, address: &SocketAddrUnix) -> OwnedFd {
    let socket = socket(kind);
    rustix::net::bind(&socket, address).expect("bind");
    socket
}

/// A socket that listens at an address.
pub(crate) fn listening(kind: SocketType, address: &SocketAddrUnix, backlog: i32) -> OwnedFd {
    let socket = bound(kind, address);
    rustix::net::listen(&socket, backlog).expect("listen");
    socket
}

/// A socket connected to an address.
pub(crate) fn connected(kind: SocketType, address: &SocketAddrUnix) -> OwnedFd {
    let socket = socket(kind);
    rustix::net::connect(&socket, address).expect("connect");
    socket
}

pub(crate) fn accept(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::net::accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// The address of a socket, and that of its peer.
pub(crate) fn names(socket: &OwnedFd) -> [Option<SocketAddrUnix>; 2] {
    let own = rustix::net::getsockname(socket).ok();
    let peer = rustix::net::getpeername(socket).ok().flatten();
    [own, peer].map(|name| name.and_then(|name| SocketAddrUnix::try_from(name).ok()))
}

/// What was received.
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rights: Vec<OwnedFd>,
    /// Process, user and group of the sender.
    pub(crate) from: Option<(i32, u32, u32)>,
    pub(crate) address: Option<SocketAddrUnix>,
}

/// Sends, and hands descriptors over.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8], rights: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(rights)), "there is room");
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
    check_eq!(sent, Ok(bytes.len()), "send");
}

/// Receives at most `len` bytes, and all that comes with them.
pub(crate) fn receive(socket: &OwnedFd, len: usize, flags: RecvFlags) -> Result<Got, Errno> {
    let mut bytes = vec![0; len];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    let read = message.bytes;
    let address = message.address.and_then(|name| SocketAddrUnix::try_from(name).ok());
    let mut got = Got { address, ..Got::default() };
    for item in control.drain() {
        match item {
            RecvAncillaryMessage::ScmRights(rights) => got.rights.extend(rights),
            RecvAncillaryMessage::ScmCredentials(cred) => {
                let pid = cred.pid.as_raw_nonzero().get();
                got.from = Some((pid, cred.uid.as_raw(), cred.gid.as_raw()));
            }
            _ => {}
        }
    }
    bytes.truncate(read);
    got.bytes = bytes;
    Ok(got)
}

/// What the next read of up to `len` bytes gives.
#[track_caller]
pub(crate) fn hear(socket: &OwnedFd, len: usize, expected: &[u8], what: &str) -> Got {
    let got = receive(socket, len, RecvFlags::empty());
    check_eq!(got.as_ref().map(|got| &got.bytes[..]), Ok(expected), "{what}");
    got.unwrap_or_default()
}

/// Nothing more is there, and nobody has closed.
#[track_caller]
pub(crate) fn silent(socket: &OwnedFd, what: &str) {
    let got = receive(socket, 1, RecvFlags::empty());
    check_eq!(got.map(|got| got.bytes), Err(Errno::AGAIN), "{what}");
}

/// End of file.
#[track_caller]
pub(crate) fn ended(socket: &OwnedFd, what: &str) {
    let got = receive(socket, 1, RecvFlags::empty());
    check_eq!(got.map(|got| got.bytes), Ok(Vec::new()), "{what}");
}

/// Bytes get through in both directions.
#[track_caller]
pub(crate) fn talk(one: &OwnedFd, other: &OwnedFd) {
    send(one, b"there", &[]);
    hear(other, 100, b"there", "what was sent there");
    send(other, b"and back", &[]);
    hear(one, 100, b"and back", "what was sent back");
}

/// A numeric option of level `SOL_SOCKET`.
pub(crate) fn option(socket: &OwnedFd, name: i32) -> i32 {
    let mut value: i32 = -1;
    let mut len = size_of::<i32>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes an int, and its length.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut len)
    };
    check_eq!(result, 0, "getsockopt {name}");
    value
}

/// Sets it.
pub(crate) fn set_option(socket: &OwnedFd, name: i32, value: i32) {
    let len = size_of::<i32>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads an int.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, (&raw const value).cast(), len) };
    check_eq!(result, 0, "setsockopt {name}");
}

/// `SO_PEERCRED`: process, user and group.
pub(crate) fn peer_cred(socket: &OwnedFd) -> [i32; 3] {
    let mut value = [-2; 3];
    let mut len = size_of_val(&value) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes a struct ucred, three ints, and its length.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check_eq!(result, 0, "SO_PEERCRED");
    value
}

/// What poll tells, of what is asked for by default and errors.
pub(crate) fn ready(socket: &OwnedFd) -> rustix::event::PollFlags {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let asked = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP | PollFlags::PRI;
    let mut fds = [PollFd::new(socket, asked)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    check!(poll(&mut fds, Some(&now)).is_ok(), "poll");
    fds[0].revents()
}
