//! Connections that wait to be accepted, and whose other ends are in the tree: of IPv4, IPv6, and
//! IPv4 by sockets of IPv6.
//!
//! Verified: they are accepted in their order, with their addresses; bytes go both ways; edges that
//! were reported are not again.
//! CRIU: refuses them, or loses them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::pair::{OPTIONS, Way, place};
use crate::epoll::watch::{EDGE, Epoll, IN, NOTHING, OUT};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

fn run(cx: &mut Context) {
    let listeners =
        Way::ALL.map(|way| TcpListener::bind(place(cx, way, way as u16)).expect("bind"));
    let clients = listeners.each_ref().map(|listener| {
        let at = listener.local_addr().expect("an address");
        [(); 5].map(|()| TcpStream::connect(at).expect("connect"))
    });
    let (accepting, writing) = (Epoll::new(), Epoll::new());
    for (listener, data) in listeners.iter().zip(0..) {
        listener.set_nonblocking(true).expect("FIONBIO");
        accepting.add(listener, IN | EDGE, data);
    }
    for (client, data) in clients.iter().flatten().zip(0..) {
        writing.add(client, IN | OUT | EDGE, data);
    }
    check_eq!(accepting.take().len(), 3, "edges of listeners before");
    check_eq!(writing.take().len(), 15, "edges of clients before");
    let ends = |it: &TcpStream| (it.local_addr().ok(), it.peer_addr().ok());
    let before = clients.each_ref().map(|clients| clients.each_ref().map(ends));

    cx.ready_and_wait();

    check_eq!(accepting.take(), NOTHING, "the same edges of listeners again");
    check_eq!(writing.take(), NOTHING, "the same edges of clients again");
    let now = clients.each_ref().map(|clients| clients.each_ref().map(ends));
    check_eq!(now, before, "addresses");
    for (listener, clients) in listeners.iter().zip(&clients) {
        for mut client in clients {
            let (mut server, from) = listener.accept().expect("accept");
            check_eq!(Some(from), client.local_addr().ok(), "who comes next");
            for end in [client, &server] {
                end.set_read_timeout(Some(Duration::from_secs(15))).expect("a time-out");
            }
            let mut bytes = [0; 5];
            client.write_all(b"hello").expect("write");
            server.set_nonblocking(false).expect("FIONBIO");
            server.read_exact(&mut bytes).expect("read");
            check_eq!(&bytes, b"hello", "what came");
            server.write_all(b"there").expect("write");
            client.read_exact(&mut bytes).expect("read");
            check_eq!(&bytes, b"there", "what came back");
        }
        check!(listener.accept().is_err(), "nobody else waits");
    }
}
