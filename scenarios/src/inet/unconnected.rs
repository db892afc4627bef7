//! TCP sockets that are not connected: new, bound, and bound to a port of the kernel's choice.
//!
//! Verified: addresses are as before, and all of them can be used.
//! CRIU: works.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{SocketType, bind, connect, getsockname, listen};

use super::place::{inet, v4, v6};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn name(socket: &OwnedFd) -> Option<SocketAddr> {
    getsockname(socket).ok()?.try_into().ok()
}

fn run(cx: &mut Context) {
    let sockets = [false, true].map(|v6| [(); 2].map(|()| inet(v6, SocketType::STREAM, None)));
    let [[new, bound], [new6, bound6]] = sockets;
    bind(&bound, &v4(cx, 0)).expect("bind");
    bind(&bound6, &v6(cx, 1)).expect("bind");
    let chosen = inet(false, SocketType::STREAM, None);
    let any = SocketAddr::new(v4(cx, 0).ip(), 0);
    bind(&chosen, &any).expect("bind");
    let all = || [&new, &new6, &bound, &bound6, &chosen].map(name);
    let before = all();

    cx.ready_and_wait();

    check_eq!(all(), before, "addresses");
    listen(&bound, 1).expect("listen");
    listen(&bound6, 1).expect("listen");
    connect(&new, &v4(cx, 0)).expect("connect");
    connect(&new6, &v6(cx, 1)).expect("connect");
    check!(TcpListener::from(bound).accept().is_ok(), "accepting");
    check!(TcpListener::from(bound6).accept().is_ok(), "accepting");
    listen(&chosen, 1).expect("listen");
    check!(TcpStream::connect(name(&chosen).expect("an address")).is_ok(), "connecting");
}
