//! A netlink socket with a message in its queue.
//!
//! Verified: the dump is refused, naming the descriptor; the message is still there.
//! CRIU: refuses it.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::net::netlink::{SocketAddrNetlink, USERSOCK};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, bind, getsockname, recv, sendto, socket,
};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).refused("messages wait");

fn run(cx: &mut Context) {
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, Some(USERSOCK)).expect("socket");
    bind(&socket, &SocketAddrNetlink::new(0, 0)).expect("bind");
    let own = getsockname(&socket).expect("getsockname");
    sendto(&socket, b"to itself", SendFlags::empty(), &own).expect("send");
    sys::dup2(socket.as_raw_fd(), 42);
    drop(socket);
    // SAFETY: the number was just made, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(42) };

    cx.ready_and_wait();

    let mut bytes = [0; 20];
    let read = recv(&socket, &mut bytes[..], RecvFlags::DONTWAIT).map(|(len, _)| len);
    check_eq!((read, &bytes[..9]), (Ok(9), &b"to itself"[..]), "receiving");
}
