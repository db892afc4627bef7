//! Messages without bytes before others, in sockets from which no more will come: a pair whose sender
//! has shut down, one whose sender has closed, and datagrams behind a receiver's own `SHUT_RD`.
//!
//! Verified: all messages are received, in order, and the end after them.
//! CRIU: works.

use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
    socketpair,
};

use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const SENT: [&[u8]; 4] = [b"", b"first", b"", b"second"];

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    let (to, from) =
        socketpair(AddressFamily::UNIX, kind, SocketFlags::empty(), None).expect("socketpair");
    for message in SENT {
        check_eq!(send(&from, message, SendFlags::empty()), Ok(message.len()), "a message");
    }
    (to, from)
}

fn received(socket: &OwnedFd) {
    for message in SENT {
        let mut buffer = [0; 16];
        let found = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT).map(|(len, _)| len);
        check_eq!(found, Ok(message.len()), "bytes of a message");
        check_eq!(&buffer[..message.len()], message, "a message");
    }
}

fn run(cx: &mut Context) {
    let (shut, sender) = pair(SocketType::SEQPACKET);
    shutdown(&sender, Shutdown::Write).expect("shutdown");
    let (closed, gone) = pair(SocketType::SEQPACKET);
    drop(gone);
    let (datagrams, _sender) = pair(SocketType::DGRAM);
    shutdown(&datagrams, Shutdown::Read).expect("shutdown");

    cx.ready_and_wait();

    for socket in [&shut, &closed, &datagrams] {
        received(socket);
    }
    for socket in [&shut, &closed] {
        let end = recv(socket, &mut [0; 16][..], RecvFlags::DONTWAIT).map(|(len, _)| len);
        check_eq!(end, Ok(0), "the end");
    }
}
