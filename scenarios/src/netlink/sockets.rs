//! Netlink sockets: bound, members of groups beyond the first 32, connected, new; their switches.
//!
//! Verified: addresses, groups, peers and options; an answer of the kernel; a message from one to
//! another, and none from a stranger to who is connected.
//! CRIU: refuses groups beyond 32.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{AUDIT, KOBJECT_UEVENT, SocketAddrNetlink, USERSOCK};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, bind, connect, getpeername,
    getsockname, recv, sendto, socket,
};

use crate::facts::Users;
use crate::inet::place::{option, set};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).faults();

const NETLINK: i32 = 270;
const ADD_MEMBERSHIP: i32 = 1;
const LIST_MEMBERSHIPS: i32 = 9;
/// `NETLINK_PKTINFO`, `NETLINK_NO_ENOBUFS`, `NETLINK_CAP_ACK`, `NETLINK_EXT_ACK`,
/// `NETLINK_GET_STRICT_CHK`.
const SWITCHES: [i32; 5] = [3, 5, 10, 11, 12];

/// `NETLINK_ROUTE` is zero, as none is.
const ROUTE: Option<Protocol> = None;

fn netlink(kind: SocketType, protocol: Option<Protocol>) -> OwnedFd {
    socket(AddressFamily::NETLINK, kind, protocol).expect("socket")
}

fn read(socket: impl AsFd) -> Vec<Result<Vec<u8>, i32>> {
    let names = SWITCHES.iter().chain(&[LIST_MEMBERSHIPS]).map(|&name| (NETLINK, name));
    let names =
        names.chain([libc::SO_TYPE, libc::SO_PROTOCOL].map(|name| (libc::SOL_SOCKET, name)));
    names.map(|name| option(&socket, name)).collect()
}

fn received(socket: impl AsFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = [0; 4096];
    let len = recv(socket, &mut bytes[..], RecvFlags::DONTWAIT)?.0;
    Ok(bytes[..len].to_vec())
}

/// `RTM_GETLINK` for the loopback interface: header, then a `struct ifinfomsg`.
fn asks(socket: impl AsFd) -> bool {
    let mut request = vec![0_u8; 32];
    request[0] = 32;
    request[4] = 18;
    request[6] = 1;
    request[8] = 77;
    request[20] = 1;
    let kernel = SocketAddrNetlink::new(0, 0);
    let sent = sendto(&socket, &request, SendFlags::empty(), &kernel);
    let answer = received(&socket).unwrap_or_default();
    // RTM_NEWLINK, with the number of the request.
    sent == Ok(32) && answer.get(4) == Some(&16) && answer.get(8) == Some(&77)
}

fn run(cx: &mut Context) {
    let mut hasher = DefaultHasher::new();
    cx.path("").hash(&mut hasher);
    let port = |number: u32| (hasher.finish() as u32) & 0x7fff_fff0 | 0x4000_0000 | number;
    let route = netlink(SocketType::RAW, ROUTE);
    bind(&route, &SocketAddrNetlink::new(port(0), 0x11)).expect("bind");
    // RTNLGRP_IPV4_MROUTE_R and beyond.
    set(&route, (NETLINK, ADD_MEMBERSHIP), 33);
    SWITCHES.iter().for_each(|&name| set(&route, (NETLINK, name), 1));
    let events = netlink(SocketType::DGRAM, Some(KOBJECT_UEVENT));
    let [one, other, stranger] = [1, 2, 3].map(|number| {
        let socket = netlink(SocketType::RAW, Some(USERSOCK));
        bind(&socket, &SocketAddrNetlink::new(port(number), 0)).expect("bind");
        socket
    });
    connect(&one, &SocketAddrNetlink::new(port(2), 0)).expect("connect");
    let to_kernel = netlink(SocketType::RAW, ROUTE);
    bind(&to_kernel, &SocketAddrNetlink::new(port(4), 0)).expect("bind");
    connect(&to_kernel, &SocketAddrNetlink::new(0, 0)).expect("connect");
    check!(asks(&to_kernel), "asking the kernel before");
    // As D-Bus has one open; not every kernel has audit.
    let audit = socket(AddressFamily::NETLINK, SocketType::RAW, Some(AUDIT)).ok();
    let all = [&route, &events, &one, &other, &stranger, &to_kernel].into_iter().chain(&audit);
    let state = || {
        let all = all.clone().map(|socket| {
            let netlink = |any| SocketAddrNetlink::try_from(any).ok();
            let name = getsockname(socket).ok().and_then(netlink);
            let peer = getpeername(socket).ok().flatten().and_then(netlink);
            (read(socket), name, peer)
        });
        all.collect::<Vec<_>>()
    };
    let before = state();

    cx.ready_and_wait();

    for (number, (now, before)) in state().iter().zip(&before).enumerate() {
        check_eq!(now, before, "socket {number}");
    }
    check!(asks(&to_kernel), "asking the kernel");
    let send = |from: &OwnedFd, number| {
        let to = SocketAddrNetlink::new(port(number), 0);
        sendto(from, b"a message, padded", SendFlags::empty(), &to)
    };
    check_eq!(send(&one, 2), Ok(17), "sending to the peer");
    check_eq!(received(&other).as_deref(), Ok(&b"a message, padded"[..]), "what the peer got");
    check_eq!(send(&other, 1), Ok(17), "sending back");
    check_eq!(received(&one).as_deref(), Ok(&b"a message, padded"[..]), "what came back");
    check_eq!(send(&stranger, 1), Err(Errno::CONNREFUSED), "a stranger");
}
