//! UDP sockets that the network has told what became of their datagrams (`IP_RECVERR`), which their
//! programs have not read: connected, with several messages, and with the error told already; one
//! that is not connected.
//!
//! Verified: what they report to who polls, every message with who has sent it and what it is about,
//! in order, beside sockets that were never dumped; that all goes on.
//! CRIU: loses them.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::place::{option, set, v4};
use crate::context::until;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).faults();

const ERROR: (i32, i32) = (libc::SOL_SOCKET, libc::SO_ERROR);

fn reported(socket: &UdpSocket) -> PollFlags {
    let mut polled = [PollFd::new(socket, PollFlags::IN | PollFlags::OUT)];
    poll(&mut polled, Some(&Timespec::default())).expect("poll");
    polled[0].revents()
}

/// What waits first: the bytes that it is about, its headers without addresses of ours, and whom it
/// was sent to.
fn read(socket: &UdpSocket) -> Result<String, i32> {
    let (mut bytes, mut control) = ([0_u8; 64], [0_u64; 32]);
    // SAFETY: all zeros are an address, and a message.
    let (mut to, mut message): (libc::sockaddr_in, libc::msghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    message.msg_name = (&raw mut to).cast();
    message.msg_namelen = size_of_val(&to) as u32;
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: all that the message points at is there.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let Ok(len) = usize::try_from(len) else {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    };
    let control = &control[..message.msg_controllen.div_ceil(8)];
    let port = u16::from_be(to.sin_port);
    let to = to.sin_addr.s_addr;
    Ok(format!("{:?} to {to:x}, {port}: {control:x?}", &bytes[..len]))
}

/// One that has sent datagrams to where nobody is.
fn told(own: SocketAddr, to: SocketAddr, connects: bool, number: u8) -> UdpSocket {
    let socket = UdpSocket::bind(own).expect("bind");
    set(&socket, (libc::IPPROTO_IP, libc::IP_RECVERR), 1);
    socket.set_nonblocking(true).expect("FIONBIO");
    if connects {
        socket.connect(to).expect("connect");
    }
    for number in 0..number {
        let bytes = [b'n', b'o', number];
        // It may be told of the one before.
        let send = || if connects { socket.send(&bytes) } else { socket.send_to(&bytes, to) };
        until("sending", || send().is_ok());
        until("the message", || reported(&socket).contains(PollFlags::ERR));
    }
    socket
}

fn says(socket: &UdpSocket, asks: bool) -> Vec<String> {
    let mut said = vec![format!("{:?}", reported(socket))];
    if asks {
        said.push(format!("{:?}", option(socket, ERROR)));
    }
    for _ in 0..4 {
        said.push(format!("{:?}, {:?}", read(socket), reported(socket)));
    }
    said.push(format!(
        "{:?}, {:?}",
        socket.recv(&mut [0; 9]).map_err(|it| it.kind()),
        reported(socket)
    ));
    said
}

fn run(cx: &mut Context) {
    let to = v4(cx, 9);
    let all = || {
        let one = told(v4(cx, 0), to, true, 3);
        let asked = told(v4(cx, 1), to, true, 2);
        check!(option(&asked, ERROR) != Ok(vec![0; 4]), "an error");
        [one, asked, told(v4(cx, 2), to, false, 2)]
    };
    let sockets = all();

    cx.ready_and_wait();

    let said: Vec<_> =
        sockets.iter().enumerate().map(|(at, socket)| says(socket, at % 2 == 0)).collect();
    drop(sockets);
    let twins = all();
    for (at, (said, twin)) in said.iter().zip(&twins).enumerate() {
        check_eq!(*said, says(twin, at % 2 == 0), "what {at} says");
    }
    check_eq!(twins[0].send(b"more").ok(), Some(4), "sending");
}
