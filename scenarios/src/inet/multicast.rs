//! Members of multicast groups of both families, with and without filters of sources.
//!
//! Verified: what comes to the group comes in, from where it may; the filters; nobody can join twice,
//! and whoever is a member can leave; by which interface others send to groups.
//! CRIU: loses the memberships.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use super::place::{option_into, set, set_bytes, try_set_bytes, v4, v6};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
const JOIN_GROUP: i32 = 42;
const BLOCK_SOURCE: i32 = 43;
const LEAVE_GROUP: i32 = 45;
const JOIN_SOURCE_GROUP: i32 = 46;
const LOOPBACK: u32 = 1;

fn storage(address: IpAddr) -> Vec<u8> {
    let (family, before, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET, 4, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, 8, address.octets().to_vec()),
    };
    let mut value = (family as u16).to_ne_bytes().to_vec();
    value.resize(before, 0);
    value.extend(bytes);
    value.resize(128, 0);
    value
}

/// `struct group_req`, or `group_source_req`.
fn request(group: IpAddr, source: Option<IpAddr>) -> Vec<u8> {
    let mut value = LOOPBACK.to_ne_bytes().to_vec();
    value.resize(8, 0);
    value.extend(storage(group));
    value.extend(source.map(storage).unwrap_or_default());
    value
}

fn level(group: IpAddr) -> i32 {
    if group.is_ipv4() { IP } else { IPV6 }
}

fn ask(socket: impl AsFd, group: IpAddr, name: i32, source: Option<IpAddr>) -> Result<(), i32> {
    try_set_bytes(socket, (level(group), name), &request(group, source))
}

/// A socket that sends to groups by the loopback interface.
fn by_index(from: IpAddr) -> UdpSocket {
    let sender = UdpSocket::bind(SocketAddr::new(from, 0)).expect("bind");
    // struct ip_mreqn: group, address, interface.
    let request = [[0; 4], [0; 4], LOOPBACK.to_ne_bytes()];
    set_bytes(&sender, (IP, libc::IP_MULTICAST_IF), request.as_flattened());
    sender
}

/// Sends to a group of IPv4 from an address of this host, and says whether it came. The loopback
/// interface has no route to groups of IPv6.
fn arrives(to: &UdpSocket, group: IpAddr, from: IpAddr) -> bool {
    arrives_by(&by_index(from), to, group, from)
}

fn arrives_by(sender: &UdpSocket, to: &UdpSocket, group: IpAddr, from: IpAddr) -> bool {
    let port = to.local_addr().expect("getsockname").port();
    sender.send_to(b"all", SocketAddr::new(group, port)).expect("send");
    to.set_nonblocking(true).expect("fcntl");
    let mut bytes = [0; 9];
    let read = to.recv_from(&mut bytes).ok();
    read.is_some_and(|(len, sender)| (len, sender.ip()) == (3, from))
}

fn run(cx: &mut Context) {
    let IpAddr::V4(place) = v4(cx, 0).ip() else { unreachable!("it is of IPv4") };
    let [_, a, b, c] = place.octets();
    let groups: [IpAddr; 2] = [
        Ipv4Addr::new(239, a, b, c).into(),
        Ipv6Addr::new(0xff15, 0, 0, 0, 0, a.into(), b.into(), c.into()).into(),
    ];
    let (one, other): (IpAddr, IpAddr) =
        (Ipv4Addr::new(127, a, b, c).into(), Ipv4Addr::new(127, a, b, c ^ 1).into());
    let bind = |group: IpAddr, number| {
        let port = if group.is_ipv4() { v4(cx, number) } else { v6(cx, number) }.port();
        let socket = UdpSocket::bind(SocketAddr::new(group, port)).expect("bind");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("SO_RCVTIMEO");
        let name = if group.is_ipv4() { libc::IP_MULTICAST_ALL } else { 29 };
        set(&socket, (level(group), name), 0);
        socket
    };
    let plain = groups.map(|group| {
        let socket = bind(group, 0);
        ask(&socket, group, JOIN_GROUP, None).expect("join");
        socket
    });
    let include = bind(groups[0], 1);
    ask(&include, groups[0], JOIN_SOURCE_GROUP, Some(one)).expect("join");
    let exclude = bind(groups[0], 2);
    ask(&exclude, groups[0], JOIN_GROUP, None).expect("join");
    ask(&exclude, groups[0], BLOCK_SOURCE, Some(one)).expect("block");
    let outside = bind(groups[0], 3);
    let senders = [by_index(one), UdpSocket::bind(SocketAddr::new(one, 0)).expect("bind")];
    let IpAddr::V4(address) = one else { unreachable!("it is of IPv4") };
    set_bytes(&senders[1], (IP, libc::IP_MULTICAST_IF), &address.octets());
    // Groups are reached by another interface, if any.
    let waits = bind(groups[0], 4);
    ask(&waits, groups[0], JOIN_GROUP, None).expect("join");
    check!(waits.set_nonblocking(true).is_ok(), "fcntl");
    let port = waits.local_addr().expect("getsockname").port();
    senders[0].send_to(b"waits", SocketAddr::new(groups[0], port)).expect("send");
    let filter = |socket: &UdpSocket| {
        let mut value = request(groups[0], None);
        value.extend([0, 4_u32].map(u32::to_ne_bytes).as_flattened());
        value.resize(144 + 4 * 128, 0);
        option_of(socket, value)
    };
    let before = [&plain[0], &include, &exclude, &outside].map(filter);

    cx.ready_and_wait();

    check_eq!([&plain[0], &include, &exclude, &outside].map(filter), before, "the filters");
    let mut bytes = [0; 9];
    let waited = waits.recv_from(&mut bytes).ok().map(|(len, from)| (len, from.ip()));
    check_eq!(waited, Some((5, one)), "what waited in a member");
    for (number, sender) in senders.iter().enumerate() {
        check!(arrives_by(sender, &plain[0], groups[0], one), "by interface, {number}");
    }
    for (socket, group) in plain.iter().zip(groups) {
        let hears = || group.is_ipv4().then(|| arrives(socket, group, one));
        check!(hears() != Some(false), "a member of {group}");
        check_eq!(ask(socket, group, JOIN_GROUP, None), Err(libc::EADDRINUSE), "joining {group}");
        check_eq!(ask(socket, group, LEAVE_GROUP, None), Ok(()), "leaving {group}");
        check!(hears() != Some(true), "who has left {group}");
    }
    for (from, first, second) in [(one, true, false), (other, false, true)] {
        check_eq!(arrives(&include, groups[0], from), first, "a source to hear, from {from}");
        check_eq!(arrives(&exclude, groups[0], from), second, "all but one, from {from}");
        check!(!arrives(&outside, groups[0], from), "no member, from {from}");
    }
}

/// `MCAST_MSFILTER`, whose value names the group.
fn option_of(socket: &UdpSocket, mut value: Vec<u8>) -> Result<Vec<u8>, i32> {
    option_into(socket, (IP, 48), &mut value).map(|()| value)
}
