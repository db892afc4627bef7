//! Queues of tun and tap interfaces: the requests of `/dev/net/tun`
//! (`include/uapi/linux/if_tun.h`, `drivers/net/tun.c`).
#![allow(unsafe_code)]

use crate::Errno;
use crate::sys::check;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A tun interface: packets of IP.
pub const TUN: u16 = 0x0001;
/// A tap interface: frames of Ethernet.
pub const TAP: u16 = 0x0002;
/// What [`attach`] gives an interface: NAPI and its fragments, several queues,
/// no information before packets, one queue (of old), headers of virtio.
pub const FEATURES: u16 = 0x0010 | 0x0020 | 0x0100 | 0x1000 | 0x2000 | 0x4000;
/// The interface stays when its last queue goes.
pub const PERSISTENT: u16 = 0x0800;
/// The queue is out of use for now.
pub const DETACHED: u16 = 0x0400;

const SETIFF: u64 = 0x4004_54ca;
const GETIFF: u64 = 0x8004_54d2;
const GETSNDBUF: u64 = 0x8004_54d3;
const SETSNDBUF: u64 = 0x4004_54d4;
const GETVNETHDRSZ: u64 = 0x8004_54d7;
const SETVNETHDRSZ: u64 = 0x4004_54d8;
const SETQUEUE: u64 = 0x4004_54d9;
const GETFILTER: u64 = 0x8010_54db;
const GETDEVNETNS: u64 = 0x54e3;
/// Of any socket, and of this as well (`include/uapi/linux/sockios.h`).
const SIOCGSKNS: u64 = 0x894c;

/// How long names of interfaces are, with the zero at the end (`IFNAMSIZ`).
pub const NAME: usize = 16;

/// The name of an interface, padded with zeroes.
pub type Name = [u8; NAME];

/// `struct ifreq`, with flags.
#[repr(C)]
struct Request {
    name: Name,
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

fn ask<T>(file: &impl AsFd, request: u64, value: &mut T) -> Result<u64, Errno> {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the callers' requests read and write no more than a `T`, of which any bytes are one.
    check(unsafe { libc::syscall(libc::SYS_ioctl, file, request, std::ptr::from_mut(value)) })
}

/// The interface that the queue is of, and flags. They say nothing of
/// [`FEATURES`]: one of those has the number of another flag.
///
/// # Errors
///
/// `EBADFD`: it is of none yet.
pub fn interface(file: impl AsFd) -> Result<(Name, u16), Errno> {
    let mut request = Request { name: [0; NAME], flags: 0, rest: [0; 22] };
    ask(&file, GETIFF, &mut request)?;
    Ok((request.name, request.flags))
}

/// Makes it a queue of an interface, which is made if there is none.
///
/// # Errors
///
/// `EBUSY`: the interface has its only queue; `EINVAL`: it is of another kind.
pub fn attach(file: impl AsFd, name: Name, flags: u16) -> Result<(), Errno> {
    let mut request = Request { name, flags, rest: [0; 22] };
    ask(&file, SETIFF, &mut request).map(drop)
}

/// Takes the queue out of use.
///
/// # Errors
///
/// `EINVAL`: the interface has but one.
pub fn detach(file: impl AsFd) -> Result<(), Errno> {
    let mut request = Request { name: [0; NAME], flags: DETACHED, rest: [0; 22] };
    ask(&file, SETQUEUE, &mut request).map(drop)
}

/// How many bytes may be on their way.
///
/// # Errors
///
/// As [`interface`].
pub fn send_buffer(file: impl AsFd) -> Result<i32, Errno> {
    let mut bytes = 0;
    ask(&file, GETSNDBUF, &mut bytes).map(|_| bytes)
}

/// Sets [`send_buffer`] of all queues.
///
/// # Errors
///
/// As [`interface`].
pub fn set_send_buffer(file: impl AsFd, mut bytes: i32) -> Result<(), Errno> {
    ask(&file, SETSNDBUF, &mut bytes).map(drop)
}

/// How long headers of virtio are.
///
/// # Errors
///
/// As [`interface`].
pub fn header(file: impl AsFd) -> Result<i32, Errno> {
    let mut bytes = 0;
    ask(&file, GETVNETHDRSZ, &mut bytes).map(|_| bytes)
}

/// Sets [`header`] of the interface.
///
/// # Errors
///
/// As [`interface`].
pub fn set_header(file: impl AsFd, mut bytes: i32) -> Result<(), Errno> {
    ask(&file, SETVNETHDRSZ, &mut bytes).map(drop)
}

/// Whether a filter is attached to a tap. The kernel does not tell which.
///
/// # Errors
///
/// `EINVAL`: it is no tap.
pub fn has_filter(file: impl AsFd) -> Result<bool, Errno> {
    // A `struct sock_fprog`: its length, and where it was in the program's memory.
    let mut filter = [0_u64; 2];
    ask(&file, GETFILTER, &mut filter)?;
    Ok(filter[0] as u16 != 0)
}

/// The network namespaces of the queue, and of its interface if it `has_one`.
///
/// # Errors
///
/// `EPERM`: it takes `CAP_NET_ADMIN` there.
pub fn namespaces(file: impl AsFd, has_one: bool) -> Result<Vec<OwnedFd>, Errno> {
    let requests = [SIOCGSKNS, GETDEVNETNS];
    let requests = if has_one { &requests[..] } else { &requests[..1] };
    let open = |&request: &u64| {
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: no memory is involved.
        let raw = check(unsafe { libc::syscall(libc::SYS_ioctl, fd, request, 0) })?;
        // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
    };
    requests.iter().map(open).collect()
}
