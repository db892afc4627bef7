//! One-shots and edges on listeners that were reported, and whose callers were accepted and are there
//! still: of TCP by IPv4 and IPv6, and unix ones of both kinds, by path and by abstract name.
//!
//! Verified: who calls then is not reported by those that have fired until they are armed, and by the
//! edges once; and they are accepted.
//! CRIU: arms what has fired for hang-ups and errors.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::io::ioctl_fionbio;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketType, accept, bind, connect, getsockname,
    listen, socket,
};

use super::target::OPTIONS;
use super::watch::{EDGE, Epoll, IN, NOTHING, ONCE};
use crate::inet::place::{v4, v6};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

struct Listener {
    file: OwnedFd,
    family: AddressFamily,
    kind: SocketType,
    at: SocketAddrAny,
}

impl Listener {
    fn unix(kind: SocketType, address: &SocketAddrUnix) -> Self {
        let file = socket(AddressFamily::UNIX, kind, None).expect("socket");
        bind(&file, address).expect("bind");
        listen(&file, 8).expect("listen");
        Self::new(file, AddressFamily::UNIX, kind)
    }

    fn tcp(family: AddressFamily, at: std::net::SocketAddr) -> Self {
        Self::new(TcpListener::bind(at).expect("bind").into(), family, SocketType::STREAM)
    }

    fn new(file: OwnedFd, family: AddressFamily, kind: SocketType) -> Self {
        ioctl_fionbio(&file, true).expect("FIONBIO");
        let at = getsockname(&file).expect("getsockname");
        Self { file, family, kind, at }
    }

    /// Has somebody call, and accepts after `seen`.
    #[track_caller]
    fn call(&self, seen: impl FnOnce()) -> [OwnedFd; 2] {
        let caller = socket(self.family, self.kind, None).expect("socket");
        check_eq!(connect(&caller, &self.at), Ok(()), "calling");
        let mut poll = [rustix::event::PollFd::new(&self.file, rustix::event::PollFlags::IN)];
        check_eq!(rustix::event::poll(&mut poll, None), Ok(1), "waiting for who calls");
        // Those who watch are told just after.
        sys::nap(std::time::Duration::from_millis(2));
        seen();
        [accept(&self.file).expect("accept"), caller]
    }
}

fn run(cx: &mut Context) {
    let path = SocketAddrUnix::new(cx.path("listener")).expect("an address");
    let name = cx.path("abstract").into_os_string().into_encoded_bytes();
    let name = SocketAddrUnix::new_abstract_name(&name).expect("an address");
    let listeners = [
        Listener::unix(SocketType::STREAM, &path),
        Listener::unix(SocketType::SEQPACKET, &name),
        Listener::tcp(AddressFamily::INET, v4(cx, 0)),
        Listener::tcp(AddressFamily::INET6, v6(cx, 1)),
    ];
    let (once, edges) = (Epoll::new(), Epoll::new());
    let mut connected = Vec::new();
    for (listener, data) in listeners.iter().zip(0..) {
        once.add(&listener.file, IN | ONCE, data);
        edges.add(&listener.file, IN | EDGE, data);
        connected.push(listener.call(|| {
            check_eq!(once.take(), [(data, IN)], "one-shot {data} before");
            check_eq!(edges.take(), [(data, IN)], "edge {data} before");
        }));
    }

    cx.ready_and_wait();

    check_eq!(once.take(), NOTHING, "one-shots before anybody calls");
    check_eq!(edges.take(), NOTHING, "edges before anybody calls");
    for (listener, data) in listeners.iter().zip(0..) {
        listener.call(|| {
            check_eq!(once.take(), NOTHING, "{data} fires again");
            check_eq!(edges.take(), [(data, IN)], "edge {data}");
            check_eq!(once.modify(&listener.file, IN | ONCE, data), Ok(()), "arming");
            check_eq!(once.take(), [(data, IN)], "one-shot {data} once armed");
        });
    }
    drop(connected);
}
