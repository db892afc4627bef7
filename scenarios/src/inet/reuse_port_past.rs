//! Sockets that share a port and have given up the options that this took: listeners of TCP, and UDP.
//!
//! Verified: the options, and that the address is still in use.
//! CRIU: works.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{SocketType, bind, listen};

use super::place::{inet, option, set, v4, v6};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

const PORT: (i32, i32) = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
const ADDRESS: (i32, i32) = (libc::SOL_SOCKET, libc::SO_REUSEADDR);

fn member(is_v6: bool, at: std::net::SocketAddr, kind: SocketType) -> OwnedFd {
    let socket = inet(is_v6, kind, None);
    set(&socket, PORT, 1);
    bind(&socket, &at).expect("bind");
    if kind == SocketType::STREAM {
        listen(&socket, 8).expect("listen");
    }
    socket
}

fn run(cx: &mut Context) {
    let mut sockets = Vec::new();
    for kind in [SocketType::STREAM, SocketType::DGRAM] {
        for (is_v6, at) in [(false, v4(cx, 0)), (true, v6(cx, 1))] {
            sockets.extend([(); 3].map(|()| member(is_v6, at, kind)));
        }
    }
    // One of each three still shares.
    for socket in sockets.iter().enumerate().filter(|(at, _)| at % 3 != 2).map(|it| it.1) {
        set(socket, PORT, 0);
    }
    let options = || -> Vec<_> {
        sockets.iter().map(|socket| [PORT, ADDRESS].map(|name| option(socket, name))).collect()
    };
    let before = options();

    cx.ready_and_wait();

    check_eq!(options(), before, "options");
    for at in [v4(cx, 0), v6(cx, 1)] {
        check!(TcpStream::connect(at).is_ok(), "connecting to {at}");
        check!(TcpListener::bind(at).is_err(), "{at} is in use by listeners");
        check!(UdpSocket::bind(at).is_err(), "{at} is in use by UDP");
    }
}
