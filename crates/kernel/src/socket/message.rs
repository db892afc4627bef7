//! Messages, looked at while they stay in their queue.
#![allow(unsafe_code)]

use super::UnixAddress;
use crate::Errno;
use crate::sys::check;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Who sent a message (`SCM_CREDENTIALS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// The process, in the pid namespace of whoever asks; zero if it has ended
    /// or is not to be seen there.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A message, or the next bytes of a stream.
#[derive(Debug)]
pub struct Message {
    /// What was read.
    pub bytes: Vec<u8>,
    /// Whether there is more of the message than was asked for.
    pub cut: bool,
    /// The sender's address: `sun_path` and its like, without the family. Not
    /// there for a stream.
    pub from: Option<Vec<u8>>,
    /// Descriptors that come with it, each a new one of this process.
    pub rights: Vec<OwnedFd>,
    /// Who sent it, if the socket asks for that (`SO_PASSCRED`).
    pub credentials: Option<Credentials>,
}

/// What can come with a message: 253 descriptors at most (`SCM_MAX_FD`), and
/// labels and times.
const CONTROL: usize = 4096;

/// `SCM_PIDFD`, `include/linux/socket.h`.
const SCM_PIDFD: libc::c_int = 4;

#[repr(align(8))]
struct Control([u8; CONTROL]);

/// Looks at the next message of up to `len` bytes, without waiting.
///
/// The message stays where it is; only a socket with `SO_PEEK_OFF` set notes
/// how far this went. `urgent` asks for the byte that was sent out of band.
///
/// # Errors
/// `EAGAIN`: there is none; `EINVAL`: no byte was sent out of band. A pending
/// error of a socket that is not a stream is taken out.
pub fn peek(socket: impl AsFd, len: usize, urgent: bool) -> Result<Message, Errno> {
    let Peeked { bytes, name, control, flags } = look(socket, len, urgent)?;
    let mut message = Message {
        bytes,
        cut: flags & libc::MSG_TRUNC != 0,
        from: name.get(FAMILY..).map(<[u8]>::to_vec),
        rights: Vec::new(),
        credentials: None,
    };
    take_control(&control, &mut message);
    if flags & libc::MSG_CTRUNC != 0 {
        return Err(Errno::MSGSIZE);
    }
    Ok(message)
}

/// A datagram of the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// What was read.
    pub bytes: Vec<u8>,
    /// A `struct sockaddr_in` or `sockaddr_in6`; empty if there was no
    /// datagram: nothing can be received any more.
    pub from: Vec<u8>,
    /// What came with it, as the socket asks for it: level, type, value.
    pub control: Vec<(i32, i32, Vec<u8>)>,
}

/// Looks at the next datagram of an internet socket, as [`peek`] does.
///
/// # Errors
/// `EAGAIN`: there is none. A pending error is taken out.
pub fn peek_datagram(socket: impl AsFd) -> Result<Datagram, Errno> {
    // More than any has.
    const LEN: usize = 1 << 16;
    let Peeked { bytes, name, control, flags } = look(socket, LEN, false)?;
    if flags & (libc::MSG_CTRUNC | libc::MSG_TRUNC) != 0 {
        return Err(Errno::MSGSIZE);
    }
    let control = controls(&control).map(|(level, kind, value)| (level, kind, value.to_vec()));
    let control = control.collect();
    Ok(Datagram { bytes, from: name, control })
}

/// What `recvmsg(2)` gives.
struct Peeked {
    bytes: Vec<u8>,
    name: Vec<u8>,
    control: Vec<u8>,
    flags: libc::c_int,
}

fn look(socket: impl AsFd, len: usize, urgent: bool) -> Result<Peeked, Errno> {
    let mut bytes = vec![0_u8; len];
    let mut control = Control([0; CONTROL]);
    let mut name = [0_u8; size_of::<libc::sockaddr_storage>()];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len };
    // SAFETY: a msghdr of zeros is a valid one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = size_of_val(&name) as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL as _;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let flags = if urgent { flags | libc::MSG_OOB } else { flags };
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: every buffer in `header` is alive and as long as it says.
    let read = check(unsafe { libc::recvmsg(raw, &raw mut header, flags) } as libc::c_long)?;
    bytes.truncate(read as usize);
    Ok(Peeked {
        bytes,
        name: name.get(..header.msg_namelen as usize).unwrap_or_default().to_vec(),
        control: control.0.get(..header.msg_controllen as usize).unwrap_or_default().to_vec(),
        flags: header.msg_flags,
    })
}

/// How many of the next `len` bytes of a stream came in buffers that end before
/// the last of those bytes: descriptors come with whole buffers.
///
/// # Errors
/// `EAGAIN`: there are none.
pub fn before_last_buffer(socket: impl AsFd, len: usize) -> Result<usize, Errno> {
    let mut bytes = vec![0_u8; len.saturating_sub(1)];
    // The kernel copies buffer by buffer, and one that it cannot copy to its
    // end does not count.
    let nowhere = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 1 };
    let somewhere = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut parts = [somewhere, nowhere];
    // SAFETY: a msghdr of zeros is a valid one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = parts.as_mut_ptr();
    header.msg_iovlen = parts.len() as _;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: the first part is as long as it says, and the second is where
    // nothing is ever mapped. There is no room for descriptors, so none come.
    let read = check(unsafe { libc::recvmsg(raw, &raw mut header, flags) } as libc::c_long);
    match read {
        Err(Errno::FAULT) => Ok(0),
        read => Ok(read? as usize),
    }
}

/// Bytes of an address before what belongs to its family.
const FAMILY: usize = size_of::<libc::sa_family_t>();

/// Items of a control buffer: level, type, value.
fn controls(mut rest: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    // struct cmsghdr: length, level, type. Each is padded to eight bytes.
    const HEADER: usize = 16;
    std::iter::from_fn(move || {
        let (header, _) = rest.split_first_chunk::<HEADER>()?;
        let number = |at: usize| i32::from_ne_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        let len = header.first_chunk().map_or(0, |len| usize::from_ne_bytes(*len));
        let value = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
        Some((number(8), number(12), value))
    })
}

fn take_control(control: &[u8], message: &mut Message) {
    for (_, kind, value) in controls(control).filter(|item| item.0 == libc::SOL_SOCKET) {
        let (numbers, _) = value.as_chunks::<4>();
        let mut numbers = numbers.iter().map(|&bytes| i32::from_ne_bytes(bytes));
        match kind {
            libc::SCM_RIGHTS => message.rights.extend(numbers.filter_map(received)),
            libc::SCM_CREDENTIALS => {
                if let [Some(pid), Some(uid), Some(gid)] = [(); 3].map(|()| numbers.next()) {
                    let (uid, gid) = (uid.cast_unsigned(), gid.cast_unsigned());
                    message.credentials = Some(Credentials { pid, uid, gid });
                }
            }
            // Nobody here wants it.
            SCM_PIDFD => drop(numbers.next().and_then(received)),
            _ => {}
        }
    }
}

/// A message to be sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Descriptors that go with it.
    pub rights: &'a [BorrowedFd<'a>],
    /// Who sends it, if not this process.
    pub credentials: Option<Credentials>,
    /// Whom it goes to, if not the peer.
    pub to: Option<&'a UnixAddress>,
    /// The last byte is sent out of band.
    pub urgent: bool,
}

impl Outgoing<'_> {
    /// Sends it over a unix socket, without waiting; gives how many bytes were
    /// taken.
    ///
    /// # Errors
    /// `EAGAIN`: the queue is full; `ESRCH`: there is no process with the pid
    /// of the credentials; `EPERM`: this process may not claim them; and what
    /// else `sendmsg(2)` says.
    pub fn send(&self, socket: impl AsFd) -> Result<usize, Errno> {
        let Self { bytes, rights, credentials, to, urgent } = *self;
        let mut part =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut control = Vec::new();
        if !rights.is_empty() {
            let numbers = rights.iter().flat_map(|file| file.as_raw_fd().to_ne_bytes());
            put_control(&mut control, libc::SCM_RIGHTS, &numbers.collect::<Vec<_>>());
        }
        if let Some(Credentials { pid, uid, gid }) = credentials {
            let numbers = [pid.cast_unsigned(), uid, gid].map(u32::to_ne_bytes);
            put_control(&mut control, libc::SCM_CREDENTIALS, numbers.as_flattened());
        }
        // SAFETY: a msghdr of zeros is a valid one.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        if let Some(to) = to {
            header.msg_name = to.as_bytes().as_ptr().cast_mut().cast();
            header.msg_namelen = to.as_bytes().len() as libc::socklen_t;
        }
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if !control.is_empty() {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = control.len() as _;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let flags = if urgent { flags | libc::MSG_OOB } else { flags };
        let raw = socket.as_fd().as_raw_fd();
        // SAFETY: every buffer in `header` is alive, as long as it says, and
        // only read.
        let sent = check(unsafe { libc::sendmsg(raw, &raw const header, flags) } as libc::c_long)?;
        Ok(sent as usize)
    }
}

/// Adds a `struct cmsghdr` and what it has.
fn put_control(control: &mut Vec<u8>, kind: i32, value: &[u8]) {
    const HEADER: usize = 16;
    control.extend_from_slice(&(HEADER + value.len()).to_ne_bytes());
    control.extend_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
    control.extend_from_slice(&kind.to_ne_bytes());
    control.extend_from_slice(value);
    control.resize(control.len().next_multiple_of(8), 0);
}

/// A descriptor that came with a message; instead of some there may be an
/// error.
fn received(raw: i32) -> Option<OwnedFd> {
    (raw >= 0).then(|| owned(raw.cast_unsigned().into()))
}

/// A descriptor that the kernel has just made.
pub(super) fn owned(raw: u64) -> OwnedFd {
    let raw = RawFd::try_from(raw).expect("a descriptor is a non-negative int");
    // SAFETY: all callers pass what a call has just returned as a new
    // descriptor of this process, which nobody else knows.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

#[cfg(test)]
mod tests {
    use super::{Credentials, Outgoing, before_last_buffer, peek};
    use crate::Errno;
    use crate::socket::SocketOption;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    #[test]
    fn what_comes_with_a_message_is_seen_and_stays() {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
        assert_eq!(peek(&other, 10, false).unwrap_err(), Errno::AGAIN);
        SocketOption::of_socket(libc::SO_PASSCRED).set(&other, 1).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let pid = std::process::id().cast_signed();
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let me = Credentials { pid, uid: uid.as_raw(), gid: gid.as_raw() };
        let rights = [null.as_fd(), null.as_fd()];
        let message = Outgoing {
            bytes: b"hello",
            rights: &rights,
            credentials: Some(me),
            ..Outgoing::default()
        };
        assert_eq!(message.send(&one), Ok(5));
        for _ in 0..2 {
            let message = peek(&other, 3, false).unwrap();
            assert_eq!((&message.bytes[..], message.cut), (&b"hel"[..], true));
            assert_eq!(message.rights.len(), 2);
            assert_eq!(message.credentials, Some(me));
        }
    }

    #[test]
    fn buffers_of_a_stream_are_told_apart() {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        for bytes in [&b"before"[..], b"with"] {
            Outgoing { bytes, ..Outgoing::default() }.send(&one).unwrap();
        }
        for (len, before) in [(1, 0), (6, 0), (7, 6), (10, 6)] {
            assert_eq!(before_last_buffer(&other, len), Ok(before), "{len}");
        }
        assert_eq!(peek(&other, 10, false).unwrap().bytes, b"beforewith");
    }

    #[test]
    fn the_byte_out_of_band_is_seen() {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        assert_eq!(peek(&other, 1, true).unwrap_err(), Errno::INVAL);
        let message = Outgoing { bytes: b"abc", urgent: true, ..Outgoing::default() };
        assert_eq!(message.send(&one), Ok(3));
        assert_eq!(peek(&other, 1, true).unwrap().bytes, b"c");
        assert_eq!(peek(&other, 10, false).unwrap().bytes, b"ab");
    }
}
