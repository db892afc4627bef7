//! Sockets that listen without `SO_REUSEADDR` at ports where connections are left that they had
//! accepted and that are closed: by both ends (`TIME_WAIT`), and by the one that had accepted
//! (`FIN_WAIT2`); of IPv4, IPv6, and IPv4 by sockets of IPv6.
//!
//! Verified: one can connect to them; whose peer had closed reads the end.
//! CRIU: cannot restore them.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use super::pair::{OPTIONS, Way, place};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).options(OPTIONS).faults();

/// The library's sets `SO_REUSEADDR`.
fn listener(at: SocketAddr) -> TcpListener {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket =
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("socket");
    bind(&socket, &at).expect("bind");
    listen(&socket, 4).expect("listen");
    socket.into()
}

fn run(cx: &mut Context) {
    let ways = Way::ALL.into_iter().zip(0..);
    let listeners: Vec<_> = ways.map(|(way, number)| listener(place(cx, way, number))).collect();
    // Closed by both ends, and by one.
    let mut half_closed = Vec::new();
    for listener in &listeners {
        let at = listener.local_addr().expect("getsockname");
        let [mut both, one] = [0; 2].map(|_| {
            let client = TcpStream::connect(at).expect("connect");
            drop(listener.accept().expect("accept"));
            client
        });
        check_eq!(both.read(&mut [0]).expect("read"), 0, "bytes of who has closed");
        drop(both);
        check_eq!(one.peek(&mut [0]).expect("peek"), 0, "bytes of who has closed");
        half_closed.push(one);
    }

    cx.ready_and_wait();

    for (mut stream, listener) in half_closed.into_iter().zip(listeners) {
        check_eq!(stream.read(&mut [0]).expect("read"), 0, "bytes of who had closed");
        drop(stream);
        let at = listener.local_addr().expect("getsockname");
        let client = TcpStream::connect(at).expect("connect again");
        let (_, peer) = listener.accept().expect("accept again");
        check_eq!(peer, client.local_addr().expect("getsockname"), "who has come");
    }
}
