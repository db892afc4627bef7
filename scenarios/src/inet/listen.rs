//! Listening TCP sockets: of IPv4, of IPv6 alone, of both.
//!
//! Verified: addresses, backlog, and that connections come in: through the one of both families
//! from IPv4 as well, through the one of IPv6 alone not.
//! CRIU: works.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{SocketType, bind, listen};

use super::place::{inet, option, set, v4, v6};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const V6ONLY: (i32, i32) = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
const REUSE: (i32, i32) = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
const INFO: (i32, i32) = (libc::IPPROTO_TCP, libc::TCP_INFO);

fn listening(address: SocketAddr, only: bool, backlog: i32) -> OwnedFd {
    let socket = inet(address.is_ipv6(), SocketType::STREAM, None);
    if address.is_ipv6() {
        set(&socket, V6ONLY, only.into());
    }
    bind(&socket, &address).expect("bind");
    listen(&socket, backlog).expect("listen");
    socket
}

fn run(cx: &mut Context) {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), v6(cx, 2).port());
    let listeners: [TcpListener; 3] =
        [listening(v4(cx, 0), false, 7), listening(v6(cx, 1), true, 8), listening(any, false, 9)]
            .map(Into::into);
    set(&listeners[1], REUSE, 1);
    let read = |listener: &TcpListener| {
        // The fields tcpi_sacked: how many may wait.
        let backlog = option(listener, INFO).map(|info| info[28]);
        let only = option(listener, V6ONLY);
        (listener.local_addr().expect("getsockname"), backlog, only, option(listener, REUSE))
    };
    let before = [0, 1, 2].map(|number| read(&listeners[number]));

    cx.ready_and_wait();

    for (listener, before) in listeners.iter().zip(&before) {
        check_eq!(read(listener), *before, "a listener");
        listener.set_nonblocking(true).expect("fcntl");
        check!(listener.accept().is_err(), "nobody has come");
        listener.set_nonblocking(false).expect("fcntl");
    }
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), any.port());
    for (number, to) in [(0, before[0].0), (1, before[1].0), (2, v6(cx, 2)), (2, mapped)] {
        let client = TcpStream::connect(to).expect("connect");
        let (_, from) = listeners[number].accept().expect("accept");
        check_eq!(from.port(), client.local_addr().expect("getsockname").port(), "who came");
    }
    let only = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), before[1].0.port());
    check!(TcpStream::connect(only).is_err(), "IPv4 to a listener of IPv6 alone");
}
