//! Edges of reading and writing on both ends of sockets that were reported: connections of TCP with
//! bytes on their way or none, and one that takes no more; UDP; unix streams and datagrams; listeners.
//!
//! Verified: nothing is reported again; the next edge of each is, once.
//! CRIU: reports them again.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

use rustix::io::{ioctl_fionbio, read, write};

use super::target::OPTIONS;
use super::watch::{EDGE, Epoll, IN, NOTHING, OUT};
use crate::context::until;
use crate::inet::place::{v4, v6};
use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

/// The numbers of both ends.
const UDP: [u64; 2] = [6, 7];

fn connection(at: std::net::SocketAddr) -> [OwnedFd; 2] {
    let listener = TcpListener::bind(at).expect("bind");
    let client = TcpStream::connect(at).expect("connect");
    [client.into(), listener.accept().expect("accept").0.into()]
}

fn datagrams(cx: &Context) -> [OwnedFd; 2] {
    let ends = [2, 3].map(|number| UdpSocket::bind(v4(cx, number)).expect("bind"));
    ends[0].connect(v4(cx, 3)).expect("connect");
    ends[1].connect(v4(cx, 2)).expect("connect");
    ends.map(OwnedFd::from)
}

/// Everything that is reported until nothing is for a moment.
fn settle(epoll: &Epoll) -> Vec<(u64, u32)> {
    let mut all = Vec::new();
    loop {
        sys::nap(Duration::from_millis(10));
        match &epoll.take()[..] {
            [] => return all,
            some => all.extend(some),
        }
    }
}

fn fill(file: &OwnedFd) {
    until("it to be full", || {
        while write(file, &[b'a'; 4096]).is_ok() {}
        sys::nap(Duration::from_millis(5));
        write(file, b"a").is_err()
    });
}

fn run(cx: &mut Context) {
    let unix = UnixStream::pair().expect("a pair");
    let datagram = UnixDatagram::pair().expect("a pair");
    let pairs = [
        connection(v4(cx, 0)),
        connection(v6(cx, 1)),
        connection(v4(cx, 4)),
        datagrams(cx),
        [unix.0.into(), unix.1.into()],
        [datagram.0.into(), datagram.1.into()],
    ];
    let full = connection(v4(cx, 5));
    let at = v4(cx, 6);
    let path = cx.path("listener");
    let listeners: [OwnedFd; 2] = [
        TcpListener::bind(at).expect("bind").into(),
        UnixListener::bind(&path).expect("bind").into(),
    ];
    let epoll = Epoll::new();
    for end in pairs.as_flattened().iter().chain(&full) {
        ioctl_fionbio(end, true).expect("FIONBIO");
    }
    let ends = || pairs.as_flattened().iter().chain(&full[..1]).chain(&listeners);
    for (end, data) in ends().zip(0..) {
        // What UDP has sent is another edge of its own.
        let events = if UDP.contains(&data) { IN } else { IN | OUT };
        epoll.add(end, events | EDGE, data);
    }
    // The third stays empty.
    for [one, other] in pairs.iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, pair)| pair) {
        for (from, bytes) in [(one, b"from one"), (other, b"the next")] {
            check_eq!(write(from, bytes), Ok(8), "writing");
        }
    }
    fill(&full[0]);
    check!(!settle(&epoll).is_empty(), "edges before");

    cx.ready_and_wait();

    check_eq!(settle(&epoll), NOTHING, "the same edges again");
    for (pair, first) in pairs.iter().zip((0..).step_by(2)) {
        for (from, to) in [(0, 1), (1, 0)] {
            check_eq!(write(&pair[from], b"again"), Ok(5), "writing");
            let to = first + to as u64;
            let wanted = if UDP.contains(&to) { IN } else { IN | OUT };
            check_eq!(settle(&epoll), [(to, wanted)], "the next edge of {to}");
        }
    }
    let first = 2 * pairs.len() as u64;
    let mut bytes = vec![0; 1 << 16];
    until("all to be read", || {
        while read(&full[1], &mut bytes).is_ok() {}
        sys::nap(Duration::from_millis(5));
        epoll.take().contains(&(first, OUT))
    });
    settle(&epoll);
    let _clients =
        (TcpStream::connect(at).expect("connect"), UnixStream::connect(&path).expect("connect"));
    check_eq!(settle(&epoll), [(first + 1, IN), (first + 2, IN)], "the next edges of listeners");
}
