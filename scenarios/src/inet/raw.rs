//! Raw sockets of a protocol that nobody uses, with their filters and options; some, and one of datagrams, are
//! connected to an address and no port.
//!
//! Verified: whom they send to; protocol, address, `IP_HDRINCL`, the filter of ICMP types, `IPV6_FREEBIND` and
//! `IPV6_TRANSPARENT`.
//! CRIU: works.

use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::net::{
    Protocol, SendFlags, SocketType, bind, connect, getpeername, getsockname, ipproto, send,
};

use super::place::{inet, option, set, set_bytes, v4, v6};
use crate::facts::Users;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).dump_faults();

const HDRINCL: (i32, i32) = (libc::IPPROTO_IP, 3);
const ICMP_FILTER: (i32, i32) = (libc::IPPROTO_RAW, 1);
const ICMPV6_FILTER: (i32, i32) = (libc::IPPROTO_ICMPV6, 1);
const FREEBIND: (i32, i32) = (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND);
const TRANSPARENT: (i32, i32) = (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT);
const PROTOCOL: (i32, i32) = (libc::SOL_SOCKET, libc::SO_PROTOCOL);

fn run(cx: &mut Context) {
    let number = |number| Protocol::from_raw(std::num::NonZeroU32::new(number).expect("not zero"));
    // The highest; other types of sockets have a protocol of their own of this number.
    let highest = libc::IPPROTO_MPTCP.cast_unsigned();
    let sockets = [
        inet(false, SocketType::RAW, Some(number(253))),
        inet(false, SocketType::RAW, Some(ipproto::ICMP)),
        inet(true, SocketType::RAW, Some(ipproto::ICMPV6)),
        inet(false, SocketType::RAW, Some(number(6))),
        inet(true, SocketType::RAW, Some(number(highest))),
    ];
    bind(&sockets[0], &SocketAddr::new(v4(cx, 0).ip(), 0)).expect("bind");
    set(&sockets[0], HDRINCL, 1);
    set(&sockets[4], FREEBIND, 1);
    set(&sockets[2], TRANSPARENT, 1);
    // Nothing gets through.
    set(&sockets[1], ICMP_FILTER, -1);
    set_bytes(&sockets[2], ICMPV6_FILTER, &[0xff; 32]);
    let connected = [
        (inet(false, SocketType::RAW, Some(number(252))), SocketAddr::new(v4(cx, 0).ip(), 0)),
        (inet(true, SocketType::RAW, Some(number(252))), SocketAddr::new(v6(cx, 0).ip(), 0)),
        (inet(false, SocketType::DGRAM, None), SocketAddr::new(v4(cx, 0).ip(), 0)),
    ];
    for (socket, peer) in &connected {
        connect(socket, peer).expect("connect");
    }
    let (raw, sends) = (&connected[0].0, || {
        connected.each_ref().map(|(socket, _)| send(socket, &[0; 8], SendFlags::empty()))
    });
    let read = || {
        sockets.each_ref().map(|socket| {
            let options = [PROTOCOL, HDRINCL, ICMP_FILTER, ICMPV6_FILTER, FREEBIND, TRANSPARENT];
            let address = getsockname(socket).ok().and_then(|any| SocketAddr::try_from(any).ok());
            (address, options.map(|name| option(socket, name)))
        })
    };
    let before = read();

    cx.ready_and_wait();

    for (now, before) in read().iter().zip(&before) {
        check_eq!(now, before, "a raw socket");
    }
    check_eq!(sends(), [Ok(8); 3], "what is sent to no port");
    check_eq!(getpeername(raw).map(drop), Err(Errno::NOTCONN), "a peer without a port");
}
