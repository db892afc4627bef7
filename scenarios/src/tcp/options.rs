//! Options of an open connection, and of one with more in its queue than one of them lets in.
//!
//! Verified: every one reads as before, of those that were set and of those that two peers agree on; what
//! was in the queue comes, and whoever watches hears of room.
//! CRIU: restores some of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::pair::{OPTIONS, Way, connected, option, set};
use crate::context::until;
use crate::epoll::watch::{EDGE, Epoll, NOTHING, OUT};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).options(OPTIONS);

const SOCKET: i32 = libc::SOL_SOCKET;
const TCP: i32 = libc::IPPROTO_TCP;

const SET: [((i32, i32), i32); 14] = [
    ((SOCKET, libc::SO_REUSEADDR), 1),
    ((SOCKET, libc::SO_KEEPALIVE), 1),
    ((SOCKET, libc::SO_RCVLOWAT), 3),
    ((SOCKET, libc::SO_SNDBUF), 50_000),
    ((SOCKET, libc::SO_RCVBUF), 60_000),
    ((TCP, libc::TCP_NODELAY), 1),
    ((TCP, libc::TCP_KEEPIDLE), 101),
    ((TCP, libc::TCP_KEEPINTVL), 11),
    ((TCP, libc::TCP_KEEPCNT), 7),
    ((TCP, libc::TCP_LINGER2), 21),
    ((TCP, libc::TCP_USER_TIMEOUT), 12_345),
    ((TCP, 25), 8000), // TCP_NOTSENT_LOWAT
    // The first changes the other.
    ((libc::IPPROTO_IP, libc::IP_TOS), 0x10),
    ((SOCKET, libc::SO_PRIORITY), 4),
];

fn run(cx: &mut Context) {
    let plain = connected(cx, Way::V4, 0);
    let other = connected(cx, Way::V4, 1);
    SET.iter().for_each(|&(name, value)| set(&other.1, name, value));
    set(&other.2, (TCP, libc::TCP_CORK), 1);
    let names = SET.iter().map(|&(name, _)| name);
    let names: Vec<_> = names.chain([(TCP, libc::TCP_CORK), (TCP, libc::TCP_CONGESTION)]).collect();
    let full = connected(cx, Way::V4, 2);
    let sent = fill(&full.1);
    set(&full.1, (TCP, 25), 10);
    let watch = Epoll::new();
    watch.add(&full.1, OUT | EDGE, 0);
    check_eq!(watch.take(), NOTHING, "room before");
    let ends = [&plain.1, &plain.2, &other.1, &other.2, &full.1];
    let read = || {
        ends.map(|end| {
            let info = option(end, (TCP, libc::TCP_INFO)).map(|info| info[5..7].to_vec());
            let all = names.iter().map(|&name| option(end, name)).collect::<Vec<_>>();
            (all, info)
        })
    };
    let before = read();

    cx.ready_and_wait();

    for (number, (now, before)) in read().into_iter().zip(before).enumerate() {
        check_eq!(now, before, "options of end {number}");
    }
    let mut all = vec![1; sent];
    (&full.2).read_exact(&mut all).expect("read");
    check!(all.iter().all(|&byte| byte == 0), "what was in the queue");
    until("room", || !watch.take().is_empty());
    check_eq!((&full.1).write(b"x").map_err(|error| error.kind()), Ok(1), "write");
}

/// Sends until nothing more gets in, and nothing more gets out either; says how much.
fn fill(stream: &TcpStream) -> usize {
    stream.set_nonblocking(true).expect("FIONBIO");
    let (mut sent, mut fulls) = (0, 0);
    while fulls < 20 {
        match (&*stream).write(&[0; 64 << 10]) {
            Ok(len) => (sent, fulls) = (sent + len, 0),
            Err(_) => {
                fulls += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    sent
}
