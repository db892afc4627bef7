//! Connections that wait to be accepted, and whose other ends are in the tree, with what was sent on
//! them.
//!
//! Verified: they are accepted in their order, with what was sent; bytes go both ways.
//! CRIU: refuses them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use super::pair::{OPTIONS, Way, place};
use super::unaccepted_outside::missing;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).missing(missing).dump_faults();

fn run(cx: &mut Context) {
    let listener = TcpListener::bind(place(cx, Way::V4, 0)).expect("bind");
    let at = listener.local_addr().expect("an address");
    let clients = ["", "before", "ends"].map(|bytes| {
        let mut client = TcpStream::connect(at).expect("connect");
        client.write_all(bytes.as_bytes()).expect("write");
        (client, bytes)
    });
    clients[2].0.shutdown(Shutdown::Write).expect("shutdown");

    cx.ready_and_wait();

    // Whoever loses them is to be told at once.
    listener.set_nonblocking(true).expect("FIONBIO");
    for (mut client, bytes) in clients {
        let (mut server, from) = listener.accept().expect("accept");
        check_eq!(Some(from), client.local_addr().ok(), "who comes next");
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(15))).expect("a time-out");
        }
        if bytes != "ends" {
            client.write_all(b"!").expect("write");
            client.shutdown(Shutdown::Write).expect("shutdown");
        }
        let mut came = String::new();
        server.read_to_string(&mut came).expect("read");
        let expected = if bytes == "ends" { bytes.to_owned() } else { format!("{bytes}!") };
        check_eq!(came, expected, "what was sent");
        server.write_all(b"there").expect("write");
        drop(server);
        came.clear();
        client.read_to_string(&mut came).expect("read");
        check_eq!(came, "there", "what came back");
    }
}
