//! A listening MPTCP socket, as Go makes it for every server.
//!
//! Verified: it is still one of MPTCP, and plain TCP comes in.
//! CRIU: refuses.

use std::net::{TcpListener, TcpStream};

use rustix::net::{SocketType, bind, ipproto, listen, socket};

use super::place::{option, v4};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).missing(|| {
    let made = socket(rustix::net::AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP));
    made.err().map(|error| format!("no MPTCP: {error}"))
});

const PROTOCOL: (i32, i32) = (libc::SOL_SOCKET, libc::SO_PROTOCOL);

fn run(cx: &mut Context) {
    let socket = super::place::inet(false, SocketType::STREAM, Some(ipproto::MPTCP));
    bind(&socket, &v4(cx, 0)).expect("bind");
    listen(&socket, 128).expect("listen");
    let unused = super::place::inet(false, SocketType::STREAM, Some(ipproto::MPTCP));

    cx.ready_and_wait();

    for socket in [&socket, &unused] {
        check_eq!(option(socket, PROTOCOL), Ok(262_u32.to_ne_bytes().to_vec()), "the protocol");
    }
    let listener = TcpListener::from(socket);
    let _client = TcpStream::connect(v4(cx, 0)).expect("connect");
    check!(listener.accept().is_ok(), "accepting");
}
