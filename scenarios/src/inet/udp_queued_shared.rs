//! UDP sockets that share a port, each with datagrams of its own in its queue.
//!
//! Verified: each has its own still, and no other's.
//! CRIU: loses them.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use rustix::net::{SocketType, bind};

use super::place::{inet, set, v4};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run).dump_faults();

fn member(cx: &Context) -> UdpSocket {
    let socket: OwnedFd = inet(false, SocketType::DGRAM, None);
    set(&socket, (libc::SOL_SOCKET, libc::SO_REUSEPORT), 1);
    bind(&socket, &v4(cx, 0)).expect("bind");
    let socket = UdpSocket::from(socket);
    socket.set_nonblocking(true).expect("fcntl");
    socket
}

fn all(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let next = || {
        let mut bytes = [0; 9];
        let len = socket.recv(&mut bytes).ok()?;
        Some(bytes[..len].to_vec())
    };
    std::iter::from_fn(next).collect()
}

fn run(cx: &mut Context) {
    let members: Vec<UdpSocket> = (0..3).map(|_| member(cx)).collect();
    // The kernel chooses one by the sender's port.
    let mut sent = Vec::new();
    for number in 1..=9 {
        let sender = UdpSocket::bind(v4(cx, number)).expect("bind");
        sender.send_to(&[number as u8], v4(cx, 0)).expect("send");
        sent.push(sender);
    }
    let before: Vec<_> = members
        .iter()
        .map(|member| {
            let waiting = all(member);
            for bytes in &waiting {
                // Back to where it came from: by the same sender.
                sent[usize::from(bytes[0]) - 1].send_to(bytes, v4(cx, 0)).expect("send");
            }
            waiting
        })
        .collect();

    cx.ready_and_wait();

    for (number, (member, before)) in members.iter().zip(before).enumerate() {
        check_eq!(all(member), before, "what waited in member {number}");
    }
}
