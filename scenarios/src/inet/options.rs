//! Options of sockets and protocols, on TCP and UDP of both families.
//!
//! Verified: every one reads as it was set, and so do all that nobody has set.
//! CRIU: restores some of them.

use rustix::net::{SocketType, listen};

use super::place::{inet, option, set, set_bytes};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

const SOCKET: i32 = libc::SOL_SOCKET;
const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
const TCP: i32 = libc::IPPROTO_TCP;
const UDP: i32 = libc::IPPROTO_UDP;

const COMMON: [((i32, i32), i32); 19] = [
    ((SOCKET, libc::SO_SNDBUF), 30_000),
    ((SOCKET, libc::SO_RCVBUF), 70_000),
    ((SOCKET, libc::SO_PRIORITY), 5),
    ((SOCKET, libc::SO_TIMESTAMP), 1),
    ((SOCKET, libc::SO_BROADCAST), 1),
    ((SOCKET, libc::SO_DONTROUTE), 1),
    ((SOCKET, 47), 1_000_000), // SO_MAX_PACING_RATE
    ((SOCKET, 49), 0),         // SO_INCOMING_CPU
    ((IP, libc::IP_TOS), 0x10),
    ((IP, libc::IP_TTL), 33),
    ((IP, libc::IP_MTU_DISCOVER), libc::IP_PMTUDISC_DO),
    ((IP, libc::IP_RECVERR), 1),
    ((IP, libc::IP_RECVTTL), 1),
    ((IP, libc::IP_RECVTOS), 1),
    ((IP, libc::IP_FREEBIND), 1),
    ((IP, libc::IP_MINTTL), 3),
    ((IP, libc::IP_PKTINFO), 1),
    ((IP, libc::IP_BIND_ADDRESS_NO_PORT), 1),
    ((IP, libc::IP_MULTICAST_ALL), 0),
];

const V6: [((i32, i32), i32); 7] = [
    ((IPV6, libc::IPV6_V6ONLY), 1),
    ((IPV6, libc::IPV6_UNICAST_HOPS), 44),
    ((IPV6, libc::IPV6_TCLASS), 0x20),
    ((IPV6, libc::IPV6_RECVPKTINFO), 1),
    ((IPV6, libc::IPV6_RECVTCLASS), 1),
    ((IPV6, libc::IPV6_RECVERR), 1),
    ((IPV6, libc::IPV6_MTU_DISCOVER), libc::IPV6_PMTUDISC_DO),
];

const OF_TCP: [((i32, i32), i32); 15] = [
    ((SOCKET, 74), 0), // SO_TXREHASH
    ((SOCKET, libc::SO_KEEPALIVE), 1),
    ((SOCKET, libc::SO_RCVLOWAT), 9),
    ((TCP, libc::TCP_NODELAY), 1),
    ((TCP, libc::TCP_MAXSEG), 900),
    ((TCP, libc::TCP_CORK), 1),
    ((TCP, libc::TCP_KEEPIDLE), 101),
    ((TCP, libc::TCP_KEEPINTVL), 11),
    ((TCP, libc::TCP_KEEPCNT), 7),
    ((TCP, libc::TCP_SYNCNT), 4),
    ((TCP, libc::TCP_LINGER2), 21),
    ((TCP, libc::TCP_DEFER_ACCEPT), 3),
    ((TCP, libc::TCP_USER_TIMEOUT), 12_345),
    ((TCP, libc::TCP_FASTOPEN), 5),
    ((TCP, 25), 8000), // TCP_NOTSENT_LOWAT
];

const OF_UDP: [((i32, i32), i32); 5] = [
    ((UDP, libc::UDP_CORK), 1),
    ((UDP, 103), 500), // UDP_SEGMENT
    ((UDP, 104), 1),   // UDP_GRO
    ((IP, libc::IP_MULTICAST_TTL), 9),
    ((SOCKET, libc::SO_PEEK_OFF), 3),
];

/// `SO_TXTIME`: by the monotonic clock, at the latest.
const TXTIME: (i32, i32) = (SOCKET, 61);

fn run(cx: &mut Context) {
    let mut sockets = Vec::new();
    for v6 in [false, true] {
        for (kind, own) in [(SocketType::STREAM, &OF_TCP[..]), (SocketType::DGRAM, &OF_UDP[..])] {
            let plain = inet(v6, kind, None);
            let socket = inet(v6, kind, None);
            let common = COMMON.iter().chain(own).chain(if v6 { &V6[..] } else { &[] });
            common.for_each(|&(name, value)| set(&socket, name, value));
            let txtime = [1_u32, 1].map(u32::to_ne_bytes);
            set_bytes(&socket, TXTIME, txtime.as_flattened());
            let linger = [1_u32, 13].map(u32::to_ne_bytes);
            set_bytes(&socket, (SOCKET, libc::SO_LINGER), linger.as_flattened());
            if kind == SocketType::STREAM {
                set_bytes(&socket, (TCP, libc::TCP_CONGESTION), b"reno");
                listen(&socket, 1).expect("listen");
            }
            sockets.extend([socket, plain]);
        }
    }
    let read = || {
        let all = COMMON.iter().chain(&V6).chain(&OF_TCP).chain(&OF_UDP).map(|&(name, _)| name);
        let all = all.chain([(SOCKET, libc::SO_LINGER), (TCP, libc::TCP_CONGESTION), TXTIME]);
        let all: Vec<_> = all.collect();
        let of = |socket| all.iter().map(|&name| (name, option(socket, name))).collect::<Vec<_>>();
        sockets.iter().map(of).collect::<Vec<_>>()
    };
    let before = read();

    cx.ready_and_wait();

    for (number, (now, before)) in read().into_iter().zip(before).enumerate() {
        for ((name, now), (_, before)) in now.into_iter().zip(before) {
            check_eq!(now, before, "option {name:?} of socket {number}");
        }
    }
}
