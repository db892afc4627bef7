//! Connections with both ends in the tree, of IPv4, IPv6, and IPv4 by sockets of IPv6, with bytes
//! that were not read on both sides.
//!
//! Verified: addresses, and every byte, of those before and those after.
//! CRIU: works.

use std::io::{Read, Write};

use super::pair::{OPTIONS, Way, connected};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).options(OPTIONS).faults();

fn run(cx: &mut Context) {
    let mut pairs = Way::ALL.map(|way| connected(cx, way, way as u16));
    for (_, client, server) in &mut pairs {
        client.write_all(b"from the client").expect("write");
        server.write_all(b"from the server").expect("write");
    }
    let ends = |(listener, client, server): &(_, _, _)| {
        let _: &std::net::TcpListener = listener;
        [client, server].map(|end: &std::net::TcpStream| {
            (end.local_addr().expect("an address"), end.peer_addr().expect("a peer"))
        })
    };
    let before = pairs.each_ref().map(ends);

    cx.ready_and_wait();

    check_eq!(pairs.each_ref().map(ends), before, "addresses");
    for (_, client, server) in &mut pairs {
        client.write_all(b", and more").expect("write");
        server.write_all(b", and more").expect("write");
        for (end, wanted) in
            [(client, b"from the server, and more"), (server, b"from the client, and more")]
        {
            let mut bytes = [0; 25];
            end.read_exact(&mut bytes).expect("read");
            check_eq!(&bytes, wanted, "what came");
        }
    }
}
