//! Epoll items on listening and UDP sockets: fired one-shots, consumed and pending edges.
//!
//! Verified: what was reported stays reported until there is something new.
//! CRIU: reports them again.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::place::v4;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn take(epoll: &OwnedFd) -> Vec<u64> {
    let mut events = Vec::with_capacity(8);
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&now)).expect("wait");
    events.iter().map(|event| event.data.u64()).collect()
}

fn run(cx: &mut Context) {
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
    let listener = TcpListener::bind(v4(cx, 0)).expect("bind");
    let once = UdpSocket::bind(v4(cx, 1)).expect("bind");
    let edge = UdpSocket::bind(v4(cx, 2)).expect("bind");
    let writable = UdpSocket::bind(v4(cx, 3)).expect("bind");
    let add = |file: &dyn std::os::fd::AsFd, data, flags| {
        epoll::add(&epoll, file, EventData::new_u64(data), flags).expect("add");
    };
    add(&listener, 0, EventFlags::IN | EventFlags::ET);
    add(&once, 1, EventFlags::IN | EventFlags::ONESHOT);
    add(&edge, 2, EventFlags::IN | EventFlags::OUT | EventFlags::ET);
    add(&writable, 3, EventFlags::OUT | EventFlags::ONESHOT);
    once.send_to(b"x", v4(cx, 1)).expect("send");
    check_eq!(take(&epoll).len(), 3, "before");
    once.recv(&mut [0]).expect("recv");

    cx.ready_and_wait();

    check_eq!(take(&epoll), [], "before anything new");
    once.send_to(b"x", v4(cx, 1)).expect("send");
    check_eq!(take(&epoll), [], "a fired one-shot");
    let _client = TcpStream::connect(v4(cx, 0)).expect("connect");
    check_eq!(take(&epoll), [0], "somebody comes");
    edge.send_to(b"x", v4(cx, 2)).expect("send");
    check_eq!(take(&epoll), [2], "a datagram comes");
}
