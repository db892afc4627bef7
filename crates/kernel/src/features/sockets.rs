//! Sockets.
#![allow(unsafe_code)]

use super::{Reason, State};
use crate::Errno;
use crate::sys::check;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::os::fd::AsRawFd;

const TCP_REPAIR: libc::c_int = 19;

pub(super) fn tcp_repair() -> State {
    let trial = || {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let on: libc::c_int = 1;
        // SAFETY: the kernel reads an int.
        check(
            unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::IPPROTO_TCP,
                    TCP_REPAIR,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            }
            .into(),
        )
    };
    State::of(trial())
}

pub(super) fn nftables() -> State {
    // There is no such table; to be told so takes nftables and the right to use it.
    State::of(crate::netfilter::remove("dormouse-probe").map_err(|error| error.source))
}

pub(super) fn diag_unix() -> State {
    // struct unix_diag_req: family, protocol, pad, states, inode, show,
    // cookie. No state: nothing is listed.
    diag::<24>(libc::AF_UNIX, 0)
}

pub(super) fn diag_tcp() -> State {
    diag::<56>(libc::AF_INET, libc::IPPROTO_TCP)
}

pub(super) fn diag_udp() -> State {
    diag::<56>(libc::AF_INET, libc::IPPROTO_UDP)
}

pub(super) fn diag_raw() -> State {
    diag::<56>(libc::AF_INET, libc::IPPROTO_RAW)
}

pub(super) fn diag_packet() -> State {
    diag::<20>(libc::AF_PACKET, 0)
}

pub(super) fn diag_netlink() -> State {
    diag::<20>(libc::AF_NETLINK, libc::NETLINK_ROUTE)
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const HEADER: usize = 16;

/// Asks for a listing. The requests of all families start with family and
/// protocol; the rest, zero here, is `REQUEST` bytes in all.
fn diag<const REQUEST: usize>(family: libc::c_int, protocol: libc::c_int) -> State {
    let trial = || {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        let mut message = vec![0u8; HEADER + REQUEST];
        // struct nlmsghdr: length, type, flags, sequence number, port.
        message[..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message[HEADER] = family as u8;
        message[HEADER + 1] = protocol as u8;
        // Unconnected, it goes to the kernel, which answers before this
        // returns.
        rustix::net::send(&socket, &message, SendFlags::empty())?;
        let mut answer = [0u8; 8192];
        let (len, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
        let kind = answer[..len].get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        if kind == Some(libc::NLMSG_ERROR as u16) {
            let code = answer[..len].get(HEADER..HEADER + 4).unwrap_or(&[0; 4]);
            let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
            return Err(Errno::from_raw_os_error(-code));
        }
        Ok(kind)
    };
    match trial() {
        Ok(Some(_)) => State::Yes,
        Ok(None) => State::No(Reason::Finding("an answer too short to be one")),
        Err(errno) => State::refused(errno),
    }
}
