//! Addresses of packet sockets.
#![allow(unsafe_code)]

use crate::Errno;
use crate::sys::check;
use std::os::fd::{AsFd, AsRawFd};

/// Binds a packet socket: to what it receives (`ETH_P_*`; zero leaves it as it
/// was made), and to an interface (zero: to all).
///
/// # Errors
/// What `bind(2)` says.
pub fn bind_packet(socket: impl AsFd, protocol: u16, interface: u32) -> Result<(), Errno> {
    let address = address(protocol, interface);
    let len = size_of_val(&address) as libc::socklen_t;
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `len` bytes of an address, which are there.
    check(unsafe { libc::bind(raw, (&raw const address).cast(), len) }.into()).map(drop)
}

fn address(protocol: u16, interface: u32) -> libc::sockaddr_ll {
    // SAFETY: a sockaddr_ll of zeros is a valid one.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface.cast_signed();
    address.sll_halen = 6;
    address
}

/// Sends a packet by an interface, to a hardware address of zeros, and what waits in the ring
/// of the socket.
///
/// # Errors
/// What `sendto(2)` says.
pub fn send_packet(
    socket: impl AsFd,
    (protocol, interface): (u16, u32),
    bytes: &[u8],
) -> Result<(), Errno> {
    let address = address(protocol, interface);
    let len = size_of_val(&address) as libc::socklen_t;
    let raw = socket.as_fd().as_raw_fd();
    let to = (&raw const address).cast();
    // SAFETY: the kernel reads the bytes and `len` bytes of an address, which are there.
    let sent = unsafe { libc::sendto(raw, bytes.as_ptr().cast(), bytes.len(), 0, to, len) };
    check(sent as i64).map(drop)
}

/// Binds a socket of type `SOCK_PACKET` to the interface of this name.
///
/// # Errors
/// What `bind(2)` says; `EINVAL`: the name is too long.
pub fn bind_packet_by_name(socket: impl AsFd, interface: &[u8]) -> Result<(), Errno> {
    // struct sockaddr: the name takes the place of an address.
    let mut address = [0_u8; 16];
    address[..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
    address[2..].get_mut(..interface.len()).ok_or(Errno::INVAL)?.copy_from_slice(interface);
    let raw = socket.as_fd().as_raw_fd();
    let len = address.len() as libc::socklen_t;
    // SAFETY: as for `bind_packet`.
    check(unsafe { libc::bind(raw, address.as_ptr().cast(), len) }.into()).map(drop)
}
