//! Connections that wait to be accepted with more sent on them than a new one has room for at first.
//!
//! Verified: all that was sent is read.
//! CRIU: refuses them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::pair::{OPTIONS, Way, place};
use super::unaccepted_outside::missing;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).missing(missing).dump_faults();

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number % 251) as u8).collect()
}

fn run(cx: &mut Context) {
    let plain = TcpListener::bind(place(cx, Way::V4, 0)).expect("bind");
    let sized = TcpListener::bind(place(cx, Way::V4, 1)).expect("bind");
    set_socket_recv_buffer_size(&sized, 200_000).expect("SO_RCVBUF");
    let connect = |listener: &TcpListener, count: usize| {
        let client = TcpStream::connect(listener.local_addr().expect("an address"));
        let mut client = client.expect("connect");
        client.write_all(&bytes(count)).expect("write");
        (client, count)
    };
    let of_plain = [66_000, 80_000, 97_260, 104_000].map(|count| connect(&plain, count));
    let of_sized = [70_000, 150_000, 300_000].map(|count| connect(&sized, count));

    cx.ready_and_wait();

    let pairs = of_plain.into_iter().map(|client| (&plain, client));
    let pairs = pairs.chain(of_sized.into_iter().map(|client| (&sized, client)));
    // Whoever loses them is to be told at once.
    for listener in [&plain, &sized] {
        listener.set_nonblocking(true).expect("FIONBIO");
    }
    for (listener, (client, count)) in pairs {
        let (mut server, from) = listener.accept().expect("accept");
        check_eq!(Some(from), client.local_addr().ok(), "who comes next");
        client.shutdown(Shutdown::Write).expect("shutdown");
        server.set_nonblocking(false).expect("FIONBIO");
        server.set_read_timeout(Some(Duration::from_secs(15))).expect("a time-out");
        let mut came = Vec::new();
        server.read_to_end(&mut came).expect("read");
        check!(came == bytes(count), "of {count} bytes {} came, or others", came.len());
    }
}
