//! A UDP socket whose datagram waits, on its way out, for the answer of a neighbour that there is
//! none of.
//!
//! Verified: the socket is as it was, and sends on.
//! CRIU: works.

use std::net::UdpSocket;
use std::process::Command;

use super::place::option;
use crate::facts::Users;
use crate::{Context, Scenario};

/// Needs the right to make network interfaces.
pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).missing(missing);

/// Asks for the neighbour for as long as the scenario may take.
const PREPARE: &str = "ip link del nobody-a 2> /dev/null; \
    ip link add nobody-a type veth peer name nobody-b && \
    ip addr add 10.93.7.1/24 dev nobody-a && \
    echo 1000 > /proc/sys/net/ipv4/neigh/nobody-a/mcast_solicit && \
    ip link set nobody-b up && ip link set nobody-a up";

fn sh(script: &str) -> bool {
    Command::new("sh").args(["-c", script]).status().is_ok_and(|status| status.success())
}

fn missing() -> Option<String> {
    (!sh("ip link show type veth > /dev/null 2>&1")).then(|| "ip(8) is missing".into())
}

/// Bytes of memory that what the socket has sent still takes.
fn unsent(socket: &UdpSocket) -> u32 {
    // SK_MEMINFO_WMEM_ALLOC, the third word of SO_MEMINFO.
    let told = option(socket, (libc::SOL_SOCKET, 55)).expect("SO_MEMINFO");
    u32::from_ne_bytes([told[8], told[9], told[10], told[11]])
}

fn run(cx: &mut Context) {
    assert!(sh(PREPARE), "a pair of interfaces");
    let socket = UdpSocket::bind("10.93.7.1:0").expect("bind");
    socket.connect("10.93.7.2:9").expect("connect");
    assert_eq!(socket.send(b"anybody there?").ok(), Some(14), "sending");
    assert!(unsent(&socket) > 0, "it waits");
    let name = socket.local_addr().expect("a name");

    cx.ready_and_wait();

    check_eq!(socket.local_addr().ok(), Some(name), "the name");
    check_eq!(socket.peer_addr().ok(), "10.93.7.2:9".parse().ok(), "the peer");
    check_eq!(socket.send(b"hello?").ok(), Some(6), "sending again");
}
