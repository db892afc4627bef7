//! Groups of sockets that share a port (`SO_REUSEPORT`): listeners of TCP, and UDP.
//!
//! Verified: a further socket of the same user can join, and every connection comes in somewhere.
//! CRIU: works.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{SocketType, bind, listen};

use super::place::{inet, set, v4};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn member(cx: &Context, kind: SocketType) -> OwnedFd {
    let socket = inet(false, kind, None);
    set(&socket, (libc::SOL_SOCKET, libc::SO_REUSEPORT), 1);
    bind(&socket, &v4(cx, 0)).expect("bind");
    if kind == SocketType::STREAM {
        listen(&socket, 8).expect("listen");
    }
    socket
}

fn run(cx: &mut Context) {
    let mut listeners: Vec<TcpListener> =
        (0..3).map(|_| member(cx, SocketType::STREAM).into()).collect();
    let _others = [(); 3].map(|()| member(cx, SocketType::DGRAM));

    cx.ready_and_wait();

    member(cx, SocketType::DGRAM);
    listeners.push(member(cx, SocketType::STREAM).into());
    let clients: Vec<_> = (0..5).filter_map(|_| TcpStream::connect(v4(cx, 0)).ok()).collect();
    let mut came = 0;
    for listener in &listeners {
        listener.set_nonblocking(true).expect("fcntl");
        came += std::iter::from_fn(|| listener.accept().ok()).count();
    }
    check_eq!((clients.len(), came), (5, 5), "connections");
}
