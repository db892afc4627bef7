//! UDP sockets whose peers are not there, which they have not been told yet.
//!
//! Verified: each is told, once, and is connected to its peer as before; also where the peer is
//! elsewhere than the socket, and of IPv4 at a socket of IPv6.
//! CRIU: loses it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use super::place::{v4, v6};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn refused(from: SocketAddr, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(from).expect("bind");
    socket.connect(to).expect("connect");
    socket.send(b"to nobody").expect("send");
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    socket
}

fn receive(socket: &UdpSocket) -> Option<i32> {
    socket.recv(&mut [0; 9]).err().and_then(|error| error.raw_os_error())
}

fn run(cx: &mut Context) {
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), v6(cx, 5).port());
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), v4(cx, 2).port());
    let peers = [v4(cx, 1), v4(cx, 3), v6(cx, 4), mapped];
    let own = [v4(cx, 0), any, v6(cx, 0), SocketAddr::new("::".parse().expect("an address"), 0)];
    let sockets: Vec<_> = own.into_iter().zip(peers).map(|(own, to)| refused(own, to)).collect();
    let addresses = |socket: &UdpSocket| {
        let own = socket.local_addr().expect("getsockname");
        (own, socket.peer_addr().expect("getpeername"))
    };
    let before: Vec<_> = sockets.iter().map(addresses).collect();

    cx.ready_and_wait();

    check_eq!(sockets.iter().map(addresses).collect::<Vec<_>>(), before, "the addresses");
    for (index, socket) in sockets.iter().enumerate() {
        check_eq!(receive(socket), Some(libc::ECONNREFUSED), "receiving by {index}");
        check_eq!(receive(socket), Some(libc::EAGAIN), "receiving again by {index}");
        check_eq!(socket.send(b"again").ok(), Some(5), "sending by {index}");
        check_eq!(receive(socket), Some(libc::ECONNREFUSED), "receiving after that by {index}");
    }
    let peer = UdpSocket::bind(before[0].1).expect("bind");
    check_eq!(sockets[0].send(b"now").ok(), Some(3), "sending to somebody");
    let mut bytes = [0; 9];
    let received = peer.recv_from(&mut bytes).expect("receiving from it");
    check_eq!((received, &bytes[..3]), ((3, before[0].0), &b"now"[..]), "what was sent");
}
