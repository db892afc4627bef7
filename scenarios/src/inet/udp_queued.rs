//! UDP sockets with datagrams in their queues: empty and long ones, from several senders, of both
//! families, with what the sockets ask for besides; connected sockets; sockets that share a port.
//!
//! Verified: bytes, senders, order, address, interface, hop limit and class; and nothing more comes.
//! CRIU: loses them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use super::place::{set, v4, v6};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;

/// Bytes, sender, and what came with them.
type Received = (Vec<u8>, Option<SocketAddr>, Vec<u8>);

/// Reads the next datagram.
fn receive(socket: &UdpSocket) -> Option<Received> {
    let (mut bytes, mut control) = (vec![0_u8; 1 << 16], vec![0_u8; 512]);
    let mut name = [0_u8; 28];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr of zeros is a valid one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = 28;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = control.len() as _;
    // SAFETY: every buffer in `header` is alive and as long as it says.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    bytes.truncate(usize::try_from(len).ok()?);
    control.truncate(header.msg_controllen as usize);
    let port = u16::from_be_bytes([name[2], name[3]]);
    let from = match i32::from(u16::from_ne_bytes([name[0], name[1]])) {
        libc::AF_INET => name[4..].first_chunk::<4>().map(|&ip| (Ipv4Addr::from(ip), port).into()),
        libc::AF_INET6 => {
            let ip = name[8..].first_chunk::<16>();
            ip.map(|&ip| SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, 0).into())
        }
        _ => None,
    };
    Some((bytes, from, control))
}

fn all(socket: &UdpSocket) -> Vec<Received> {
    std::iter::from_fn(|| receive(socket)).collect()
}

fn plain(received: Vec<Received>) -> Vec<(Vec<u8>, Option<SocketAddr>)> {
    received.into_iter().map(|(bytes, from, _)| (bytes, from)).collect()
}

fn expected(from: &[&UdpSocket], bytes: &[&[u8]]) -> Vec<(Vec<u8>, Option<SocketAddr>)> {
    let from = from.iter().cycle().map(|sender| sender.local_addr().ok());
    bytes.iter().map(|bytes| bytes.to_vec()).zip(from).collect()
}

/// The socket asks for all that there is.
fn curious(socket: &UdpSocket, v6: bool) {
    let all: &[_] = if v6 {
        &[49, libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVTCLASS]
    } else {
        &[8, libc::IP_RECVTTL, libc::IP_RECVTOS, libc::IP_RECVORIGDSTADDR]
    };
    all.iter().for_each(|&name| set(socket, (if v6 { IPV6 } else { IP }, name), 1));
}

fn run(cx: &mut Context) {
    let long = vec![b'l'; 60_000];
    let messages: [&[u8]; 5] = [b"one", b"", &long, b"", b"four"];
    let bind = |at| UdpSocket::bind(at).expect("bind");
    let senders = [bind(v4(cx, 1)), bind(v4(cx, 2))];
    let senders6 = [bind(v6(cx, 3)), bind(v6(cx, 4))];
    let send = |senders: &[UdpSocket], to: SocketAddr| {
        for (message, sender) in messages.iter().zip(senders.iter().cycle()) {
            sender.send_to(message, to).expect("send");
        }
    };
    // Bound to one address, to all, to one of the other family; asking for everything; connected.
    let to = [v4(cx, 0), (Ipv4Addr::UNSPECIFIED, v4(cx, 5).port()).into(), v4(cx, 6), v4(cx, 7)];
    let sockets = to.map(bind);
    let to6 = [v6(cx, 0), (Ipv6Addr::UNSPECIFIED, v6(cx, 8).port()).into()];
    let sockets6 = to6.map(bind);
    curious(&sockets[2], false);
    curious(&sockets6[0], true);
    set(&senders[1], (IP, libc::IP_TTL), 9);
    set(&senders[1], (IP, libc::IP_TOS), 0x20);
    set(&senders6[1], (IPV6, libc::IPV6_UNICAST_HOPS), 9);
    for at in [to[0], (v4(cx, 0).ip(), to[1].port()).into(), to[2], to[3]] {
        send(&senders, at);
    }
    send(&senders6, to6[0]);
    senders[0].send_to(b"mapped", (v4(cx, 0).ip(), to6[1].port())).expect("send");
    senders6[0].send_to(b"plain", (Ipv6Addr::LOCALHOST, to6[1].port())).expect("send");
    sockets[3].connect(senders[0].local_addr().expect("getsockname")).expect("connect");
    // A twin gets the same.
    let twins = [(&sockets[2], v4(cx, 9), false), (&sockets6[0], v6(cx, 9), true)];
    let with_control = twins.map(|(socket, at, is_v6)| {
        let twin = bind(at);
        curious(&twin, is_v6);
        send(if is_v6 { &senders6 } else { &senders }, at);
        let (twin_at, at) = (at.port().to_be_bytes(), socket.local_addr().expect("getsockname"));
        // The port is among what comes with it.
        all(&twin)
            .into_iter()
            .map(|(bytes, from, mut control)| {
                for place in 0..control.len().saturating_sub(1) {
                    if control[place..place + 2] == twin_at {
                        control[place..place + 2].copy_from_slice(&at.port().to_be_bytes());
                    }
                }
                (bytes, from, control)
            })
            .collect::<Vec<_>>()
    });

    cx.ready_and_wait();

    let of = |sockets: &[UdpSocket; 2]| expected(&[&sockets[0], &sockets[1]], &messages);
    for (number, socket) in [0, 1, 3].map(|number| (number, &sockets[number])) {
        check_eq!(plain(all(socket)), of(&senders), "what waited in socket {number}");
    }
    check_eq!(all(&sockets[2]), with_control[0], "and all that came with it");
    check_eq!(all(&sockets6[0]), with_control[1], "and all that came with it by IPv6");
    let mapped = senders[0].local_addr().ok().map(|from| match from {
        SocketAddr::V4(from) => SocketAddr::new(from.ip().to_ipv6_mapped().into(), from.port()),
        from => from,
    });
    let both =
        vec![(b"mapped".to_vec(), mapped), (b"plain".to_vec(), senders6[0].local_addr().ok())];
    check_eq!(plain(all(&sockets6[1])), both, "what waited in one of both families");
    check_eq!(senders[0].send_to(b"new", to[0]).ok(), Some(3), "sending");
    check_eq!(plain(all(&sockets[0])), expected(&[&senders[0]], &[b"new"]), "what is new");
    check_eq!(sockets[3].send(b"new").ok(), Some(3), "sending to the peer");
    check_eq!(plain(all(&senders[0])), expected(&[&sockets[3]], &[b"new"]), "the answer");
    check!(UdpSocket::bind(v4(cx, 0)).is_err(), "the port is taken");
}
