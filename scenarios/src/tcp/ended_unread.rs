//! Connections that have ended with bytes left to be read: reset, reset after the peer's end,
//! without any answer, by the end of both sides; the error told already or not; much and little.
//!
//! Verified: what they report to who polls and watches, what is read, and what writing, reading and
//! connecting say before and behind that, beside connections that were never dumped; that an edge
//! that was reported is not again.
//! CRIU: loses the bytes.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, connect, recv, send};

use super::failed::unanswered;
use super::pair::{OPTIONS, Way, connected, place};
use crate::context::until;
use crate::inet::place::{option, set, set_bytes, try_set_bytes};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

const SOCKET: i32 = libc::SOL_SOCKET;
const ERROR: (i32, i32) = (SOCKET, libc::SO_ERROR);
const LINGER: (i32, i32) = (SOCKET, libc::SO_LINGER);
const MUCH: usize = 1 << 20;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Reset,
    /// And its program was told.
    ResetTold,
    /// After the end of what the peer sends.
    Broken,
    TimedOut,
    /// Both have said all.
    Orderly,
}

/// A connection of this host that has ended, and what keeps it so.
fn ended(cx: &Context, end: End, (way, number): (Way, u16), len: usize) -> (TcpStream, OwnedFd) {
    let (listener, client, mut server) = connected(cx, way, number);
    drop(listener);
    if len > 0 {
        set(&client, (SOCKET, libc::SO_RCVBUF), 4 * MUCH as i32);
    }
    let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
    server.write_all(&bytes).expect("write");
    until("all to be there", || waiting(&client) == len);
    let polled = |flag| until("the end", || reported(&client).contains(flag));
    let kept = server.try_clone().expect("dup").into();
    match end {
        End::Reset | End::ResetTold => {
            reset(server, kept);
            polled(PollFlags::ERR);
        }
        End::Broken => {
            server.shutdown(Shutdown::Write).expect("shutdown");
            polled(PollFlags::RDHUP);
            reset(server, kept);
            polled(PollFlags::ERR);
        }
        End::TimedOut => {
            unanswered(&client, &server);
            polled(PollFlags::ERR);
            return (client, kept);
        }
        End::Orderly => {
            client.shutdown(Shutdown::Write).expect("shutdown");
            server.shutdown(Shutdown::Write).expect("shutdown");
            polled(PollFlags::HUP);
            return (client, kept);
        }
    }
    if end == End::ResetTold {
        check!(option(&client, ERROR) != Ok(vec![0; 4]), "an error");
    }
    let none = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("eventfd");
    (client, none)
}

/// Closes all there is of it in such a way that the peer is told so.
fn reset(socket: TcpStream, other: OwnedFd) {
    set_bytes(&socket, LINGER, [1_u32, 0].map(u32::to_ne_bytes).as_flattened());
    drop((socket, other));
}

fn waiting(socket: &TcpStream) -> usize {
    rustix::io::ioctl_fionread(socket).expect("FIONREAD") as usize
}

fn reported(socket: &TcpStream) -> PollFlags {
    let asked = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP | PollFlags::PRI;
    let mut polled = [PollFd::new(socket, asked)];
    poll(&mut polled, Some(&Timespec::default())).expect("poll");
    polled[0].revents()
}

/// All that it says to a program that reads, and writes first if `writes`.
fn says(cx: &Context, socket: &TcpStream, writes: bool) -> Vec<String> {
    fcntl_setfl(socket, OFlags::NONBLOCK).expect("O_NONBLOCK");
    let write = || format!("written: {:?}", send(socket, b"?", SendFlags::NOSIGNAL));
    let mut bytes = vec![0; 2 * MUCH];
    let mut said = vec![format!("{:?}, {} waiting", reported(socket), waiting(socket))];
    if writes {
        said.extend([write(), write()]);
    }
    for _ in 0..4 {
        let read: Result<(usize, usize), Errno> = recv(socket, &mut bytes[..], RecvFlags::empty());
        let (len, sum) = read.map_or((0, 0), |(len, _)| {
            (len, bytes[..len].iter().map(|&byte| usize::from(byte)).sum::<usize>())
        });
        said.push(format!("read: {:?}, {len} bytes, sum {sum}", read.map(drop)));
        said.push(format!("{:?}", reported(socket)));
    }
    said.extend([write(), format!("{:?}", option(socket, ERROR))]);
    said.push(format!("connected: {:?}", connect(socket, &place(cx, Way::V4, 9))));
    said
}

/// What an epoll reports at once of all it watches.
fn events(epoll: &OwnedFd) -> Vec<(u64, u32)> {
    let mut events = Vec::with_capacity(64);
    let buffer = rustix::buffer::spare_capacity(&mut events);
    rustix::event::epoll::wait(epoll, buffer, Some(&Timespec::default())).expect("epoll_wait");
    let mut events: Vec<_> = events.iter().map(|it| (it.data.u64(), { it.flags }.bits())).collect();
    events.sort_unstable();
    events
}

fn run(cx: &mut Context) {
    let mut ends = vec![End::Reset, End::ResetTold, End::Broken, End::Orderly];
    // Nobody else may have a connection filtered.
    if rustix::process::geteuid().is_root() {
        ends.push(End::TimedOut);
    }
    let mut cases = vec![(End::Orderly, Way::V4, 0, false), (End::ResetTold, Way::V6, 0, true)];
    for (at, &end) in ends.iter().enumerate() {
        let way = Way::ALL[at % 3];
        cases.extend([(end, way, 5, false), (end, way, 5, true)]);
    }
    cases.push((End::Broken, Way::V4, MUCH, false));
    let make = |number| {
        let all = cases.iter().map(|&(end, way, len, _)| ended(cx, end, (way, number), len));
        all.collect::<Vec<_>>()
    };
    let sockets = make(0);
    let epoll = create(CreateFlags::CLOEXEC).expect("epoll_create1");
    for (at, (socket, _)) in sockets.iter().enumerate() {
        let edge = if at % 2 == 0 { EventFlags::ET } else { EventFlags::empty() };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | edge;
        add(&epoll, socket, EventData::new_u64(at as u64), flags).expect("epoll_ctl");
    }
    let first = events(&epoll);
    check_eq!(first.len(), sockets.len(), "events");
    let levels: Vec<_> = first.into_iter().filter(|(at, _)| at % 2 != 0).collect();
    check_eq!(events(&epoll), levels, "events again");
    // Whoever looks sees what is behind what it has looked at.
    let looks = try_set_bytes(&sockets[2].0, (SOCKET, libc::SO_PEEK_OFF), &2_i32.to_ne_bytes());

    cx.ready_and_wait();

    check_eq!(events(&epoll), levels, "events after that");
    // Before Linux 6.9 no socket of TCP has that.
    if looks.is_ok() {
        let mut behind = [0; 8];
        let seen = recv(&sockets[2].0, &mut behind[..], RecvFlags::PEEK);
        check_eq!(seen.map(|(len, _)| len), Ok(3), "what is behind");
    }
    for ((case, (socket, _)), (twin, _)) in cases.iter().zip(&sockets).zip(make(1)) {
        let writes = case.3;
        check_eq!(says(cx, socket, writes), says(cx, &twin, writes), "what {case:?} says");
    }
}
