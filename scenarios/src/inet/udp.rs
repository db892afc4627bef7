//! UDP sockets: bound, connected to each other and elsewhere, shut down.
//!
//! Verified: addresses of both sides, and where datagrams go and come from.
//! CRIU: works.

use std::net::UdpSocket;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};

use super::place::{v4, v6};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

fn run(cx: &mut Context) {
    for (at, to) in [(v4(cx, 0), v4(cx, 1)), (v6(cx, 2), v6(cx, 3))] {
        exchange(at, to);
    }
    let pairs = [(v4(cx, 0), v4(cx, 1)), (v6(cx, 2), v6(cx, 3))].map(|(at, to)| {
        let (one, other) = (UdpSocket::bind(at).expect("bind"), UdpSocket::bind(to).expect("bind"));
        one.connect(to).expect("connect");
        other.connect(at).expect("connect");
        [one, other].map(|socket| {
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("SO_RCVTIMEO");
            socket
        })
    });
    let bound = UdpSocket::bind(v4(cx, 4)).expect("bind");
    let shut = UdpSocket::bind(v4(cx, 5)).expect("bind");
    shut.connect(v4(cx, 6)).expect("connect");
    shutdown(&shut, Shutdown::Both).expect("shutdown");

    cx.ready_and_wait();

    for [one, other] in &pairs {
        let addresses = (one.local_addr().ok(), one.peer_addr().ok());
        check_eq!(addresses, (other.peer_addr().ok(), other.local_addr().ok()), "both sides");
        check_eq!(one.send(b"there").ok(), Some(5), "sending");
        let mut bytes = [0; 9];
        check_eq!(other.recv(&mut bytes).ok(), Some(5), "receiving");
        check_eq!(bytes[..5], b"there"[..], "what came");
    }
    check_eq!(bound.local_addr().ok(), Some(v4(cx, 4)), "where one is bound");
    check!(bound.peer_addr().is_err(), "it has no peer");
    check!(shut.send(b"x").is_err(), "sending when that is shut down");
    check_eq!(shut.recv(&mut [0; 9]).ok(), Some(0), "receiving when that is shut down");
}

/// The addresses work here.
fn exchange(at: std::net::SocketAddr, to: std::net::SocketAddr) {
    let (one, other) = (UdpSocket::bind(at).expect("bind"), UdpSocket::bind(to).expect("bind"));
    one.send_to(b"x", to).expect("send");
    other.recv(&mut [0]).expect("recv");
}
