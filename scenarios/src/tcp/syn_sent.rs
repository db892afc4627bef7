//! Connections that are being made, as nobody answers yet: by IPv4 and IPv6, by one that waits in
//! `connect` as well.
//!
//! Verified: the state, whom they are for, and that they are made once somebody answers.
//! CRIU: works, but for who waits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SocketType, connect};

use super::pair::{OPTIONS, Way, place, state};
use crate::context::until;
use crate::facts::Users;
use crate::inet::place::{inet, set, set_bytes};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).options(OPTIONS).dump_faults();

const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;

/// Listens, and is not reached.
fn deaf(at: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(at).expect("bind");
    // BPF_RET: nothing of any segment gets through.
    let program = [[6_u16, 0, 0, 0]];
    let mut value = 1_u64.to_ne_bytes().to_vec();
    value.extend((program.as_ptr() as u64).to_ne_bytes());
    set_bytes(&listener, (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), &value);
    listener
}

fn run(cx: &mut Context) {
    let places = [place(cx, Way::V4, 0), place(cx, Way::V6, 1)];
    let listeners = places.map(deaf);
    let clients: [OwnedFd; 2] = [false, true].map(|v6| {
        let client = inet(v6, SocketType::STREAM, None);
        fcntl_setfl(&client, OFlags::NONBLOCK).expect("O_NONBLOCK");
        let asked = connect(&client, &places[usize::from(v6)]);
        check_eq!(asked, Err(Errno::INPROGRESS), "connecting");
        client
    });
    let waits = place(cx, Way::V4, 2);
    let (third, thread) = (deaf(waits), std::thread::spawn(move || TcpStream::connect(waits)));
    // An entry: number, both addresses in hexadecimal, state.
    let asks = format!(":{:04X} 02 ", waits.port());
    until("the thread to wait", || {
        std::fs::read_to_string("/proc/self/net/tcp").is_ok_and(|all| all.contains(&asks))
    });
    let states = || clients.each_ref().map(state);
    check_eq!(states(), [Some(SYN_SENT); 2], "states before");

    cx.ready_and_wait();

    check_eq!(states(), [Some(SYN_SENT); 2], "states");
    for listener in listeners.iter().chain([&third]) {
        set(listener, (libc::SOL_SOCKET, libc::SO_DETACH_FILTER), 0);
    }
    for (client, listener) in clients.into_iter().zip(&listeners) {
        until("the connection", || state(&client) == Some(ESTABLISHED));
        talk(client.into(), listener);
    }
    let client = thread.join().expect("the thread");
    check!(client.is_ok(), "who waits is connected: {client:?}");
    client.into_iter().for_each(|client| talk(client, &third));
}

fn talk(mut client: TcpStream, listener: &TcpListener) {
    let at = listener.local_addr().ok();
    check_eq!(client.peer_addr().ok(), at, "whom it is connected to");
    let (mut server, _) = listener.accept().expect("accept");
    server.set_read_timeout(Some(Duration::from_secs(15))).expect("a time-out");
    client.write_all(b"hello").expect("write");
    let mut bytes = [0; 5];
    server.read_exact(&mut bytes).expect("read");
    check_eq!(&bytes, b"hello", "what came");
}
