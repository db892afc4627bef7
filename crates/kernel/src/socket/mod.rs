//! Sockets, as far as `rustix` has no words for it: options by number,
//! messages with all that comes with them, addresses of unix sockets as they
//! are.

mod address;
mod message;
mod option;
mod packet;
mod peek_offset;
mod rings;

pub use address::{UnixAddress, bind, connect, disconnect, peer_name};
pub use message::{
    Credentials, Datagram, Message, Outgoing, before_last_buffer, peek, peek_datagram,
};
pub use option::SocketOption;
pub use packet::{bind_packet, bind_packet_by_name, send_packet};
pub use peek_offset::PeekOffset;
pub use rings::MappedRings;

use crate::Errno;
use crate::sys::check;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// `SIOCUNIXFILE`, `include/uapi/linux/un.h`.
const SIOCUNIXFILE: libc::c_ulong = 0x89e0;

/// The file that a unix socket is bound to, opened with `O_PATH` by the
/// socket's own reference: whatever has become of its path.
///
/// # Errors
/// `ENOENT`: it is bound to none; `EPERM`: this takes `CAP_NET_ADMIN`.
#[allow(unsafe_code)]
pub fn bound_file(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: the call takes no argument; it returns a new descriptor.
    let result = check(unsafe { libc::ioctl(raw, SIOCUNIXFILE, 0) }.into())?;
    Ok(message::owned(result))
}

/// Whether what a stream reads next is the byte sent out of band, or stood
/// behind one that was read.
///
/// # Errors
/// `EINVAL` or `ENOTTY`: no socket has that here.
#[allow(unsafe_code)]
pub fn at_mark(socket: impl AsFd) -> Result<bool, Errno> {
    const SIOCATMARK: libc::c_ulong = 0x8905;
    let mut answer: libc::c_int = 0;
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes an int.
    check(unsafe { libc::ioctl(raw, SIOCATMARK, &raw mut answer) }.into())?;
    Ok(answer != 0)
}
