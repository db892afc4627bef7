//! Connections that have failed, which their programs have not been told yet: refused, reset, reset
//! after the peer's end, without any answer; and refused ones of which they were.
//!
//! Verified: what they report to who polls, the error, that it is told once, and what they say to a
//! second attempt to connect.
//! CRIU: loses the errors.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SocketType, bind, connect, getsockname};

use super::pair::{OPTIONS, Way, connected, place};
use crate::context::until;
use crate::inet::place::{inet, option, set, set_bytes};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).options(OPTIONS).dump_faults();

const ERROR: (i32, i32) = (libc::SOL_SOCKET, libc::SO_ERROR);
const LINGER: (i32, i32) = (libc::SOL_SOCKET, libc::SO_LINGER);

fn reported(socket: &OwnedFd) -> PollFlags {
    let asked = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP | PollFlags::PRI;
    let mut polled = [PollFd::new(socket, asked)];
    poll(&mut polled, Some(&Timespec::default())).expect("poll");
    polled[0].revents()
}

fn connecting(v6: bool, to: SocketAddr, own: Option<SocketAddr>) -> OwnedFd {
    let socket = inet(v6, SocketType::STREAM, None);
    if let Some(own) = own {
        bind(&socket, &own).expect("bind");
    }
    fcntl_setfl(&socket, OFlags::NONBLOCK).expect("O_NONBLOCK");
    check_eq!(connect(&socket, &to), Err(Errno::INPROGRESS), "connecting");
    socket
}

/// Closes it in such a way that the peer is told so.
fn reset(socket: TcpStream) {
    set_bytes(&socket, LINGER, [1_u32, 0].map(u32::to_ne_bytes).as_flattened());
}

pub(super) fn unanswered(client: &TcpStream, server: &TcpStream) {
    // BPF_RET: nothing of any segment gets through.
    let program = [[6_u16, 0, 0, 0]];
    let mut value = 1_u64.to_ne_bytes().to_vec();
    value.extend((program.as_ptr() as u64).to_ne_bytes());
    set_bytes(server, (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), &value);
    set(client, (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 1);
    std::io::Write::write_all(&mut &*client, b"is anybody there?").expect("write");
}

fn run(cx: &mut Context) {
    let mut failed = Vec::new();
    let mut kept = Vec::new();
    for (way, v6, number) in [(Way::V4, false, 0), (Way::V6, true, 4)] {
        let (nobody, own) = (place(cx, way, number), place(cx, way, number + 1));
        failed.push((connecting(v6, nobody, None), Errno::CONNREFUSED, Errno::CONNABORTED));
        failed.push((connecting(v6, nobody, Some(own)), Errno::CONNREFUSED, Errno::CONNABORTED));
        let (_, client, server) = connected(cx, way, number + 2);
        reset(server);
        failed.push((client.into(), Errno::CONNRESET, Errno::ISCONN));
        let (_, client, server) = connected(cx, way, number + 3);
        server.shutdown(Shutdown::Write).expect("shutdown");
        until("the end", || {
            reported(&client.try_clone().expect("dup").into()).contains(PollFlags::RDHUP)
        });
        reset(server);
        failed.push((client.into(), Errno::PIPE, Errno::ISCONN));
    }
    // Nobody else may have a connection filtered.
    if rustix::process::geteuid().is_root() {
        let (_, client, server) = connected(cx, Way::V4, 8);
        unanswered(&client, &server);
        kept.push(server);
        failed.push((client.into(), Errno::TIMEDOUT, Errno::ISCONN));
    }
    // Connected without the program having been told.
    let listener = TcpListener::bind(place(cx, Way::V4, 9)).expect("bind");
    let client = connecting(false, listener.local_addr().expect("an address"), None);
    until("the connection", || reported(&client).contains(PollFlags::OUT));
    reset(listener.accept().expect("accept").0);
    failed.push((client, Errno::CONNRESET, Errno::CONNABORTED));
    // Whose programs were told, and have not tried again.
    let told = [(Way::V4, false), (Way::V6, true)]
        .map(|(way, v6)| connecting(v6, place(cx, way, if v6 { 4 } else { 0 }), None));
    for (socket, ..) in &failed {
        until("all to have failed", || reported(socket).contains(PollFlags::ERR));
    }
    let before: Vec<_> = failed.iter().map(|(socket, ..)| reported(socket)).collect();
    for socket in &told {
        until("the refusal", || option(socket, ERROR) != Ok(vec![0; 4]));
    }
    let of_told = [0, 1].map(|at| reported(&told[at]));
    let bound = |at: usize| getsockname(&failed[at].0).ok();
    let (own_v4, own_v6) = (bound(1), bound(5));

    cx.ready_and_wait();

    check_eq!((bound(1), bound(5)), (own_v4, own_v6), "addresses they were bound to");
    for ((socket, error, again), before) in failed.iter().zip(before) {
        check_eq!(reported(socket), before, "what is reported with {error}");
        let told = |errno: i32| Ok(errno.to_ne_bytes().to_vec());
        check_eq!(option(socket, ERROR), told(error.raw_os_error()), "the error");
        check_eq!(option(socket, ERROR), told(0), "that it is told once");
        check_eq!(connect(socket, &place(cx, Way::V4, 9)), Err(*again), "connecting after {error}");
    }
    for (socket, before) in told.iter().zip(of_told) {
        check_eq!(reported(socket), before, "what is reported when it was told");
        check_eq!(option(socket, ERROR), Ok(vec![0; 4]), "that it was told");
        check_eq!(connect(socket, &place(cx, Way::V4, 9)), Err(Errno::CONNABORTED), "connecting");
    }
    drop(kept);
}
