//! Sockets bound to addresses that the machine does not have, by `IP_FREEBIND`; some have it switched off
//! since.
//!
//! Verified: address; the option.
//! CRIU: works.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{SocketType, bind, getsockname};

use super::place::{inet, option, set, v4, v6};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario = Scenario::new(module_path!(), run);

const FREE_BIND: (i32, i32) = (libc::IPPROTO_IP, libc::IP_FREEBIND);

/// Of the blocks for documentation, which nobody has.
fn nowhere(is_v6: bool, cx: &Context, number: u16) -> SocketAddr {
    let ip = if is_v6 { "2001:db8::7" } else { "192.0.2.7" };
    let port = if is_v6 { v6(cx, number) } else { v4(cx, number) }.port();
    SocketAddr::new(ip.parse().expect("an address"), port)
}

fn run(cx: &mut Context) {
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for is_v6 in [false, true] {
        for kind in [SocketType::STREAM, SocketType::DGRAM] {
            for stays_free in [false, true] {
                let socket = inet(is_v6, kind, None);
                set(&socket, FREE_BIND, 1);
                let number = u16::from(stays_free) + 2 * u16::from(is_v6);
                bind(&socket, &nowhere(is_v6, cx, number)).expect("bind");
                set(&socket, FREE_BIND, i32::from(stays_free));
                sockets.push(socket);
            }
        }
    }
    let read = |socket: &OwnedFd| {
        let address = getsockname(socket).ok().and_then(|any| SocketAddr::try_from(any).ok());
        (address, option(socket, FREE_BIND))
    };
    let before: Vec<_> = sockets.iter().map(read).collect();

    cx.ready_and_wait();

    for (socket, before) in sockets.iter().zip(&before) {
        check_eq!(&read(socket), before, "a socket bound to an address from nowhere");
    }
}
