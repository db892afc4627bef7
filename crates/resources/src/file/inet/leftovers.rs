//! What is left of connections that a listening socket had accepted and its program has closed.
//!
//! - Kernel object: `struct inet_timewait_sock`
//! - Truth from: `inet_csk_listen_start` and `inet_csk_bind_conflict` in
//!   `net/ipv4/inet_connection_sock.c`. They keep their port for a minute; those of a socket without
//!   `SO_REUSEADDR` let nobody else bind or listen there meanwhile, who had not before they came.
//! - Not preserved: they are ended. A late segment of such a connection, or the end that its peer
//!   has yet to send, is answered with a reset.

use std::net::SocketAddr;

use dormouse_kernel::sock_diag::{InetDiag, SockDiag};

use super::held::canonical;

// `include/net/tcp_states.h`
const FIN_WAIT2: u8 = 5;
const TIME_WAIT: u8 = 6;

/// Ends what is in the way of one who is to have the address `local`. All that they have sent has
/// arrived; those of which something is on its way are left alone.
pub(super) fn end_leftovers(local: SocketAddr) {
    // What cannot be ended is in the way as before: whoever listens finds out.
    let Ok(diag) = SockDiag::open() else { return };
    for family in [libc::AF_INET, libc::AF_INET6] {
        let listed = diag.inet(family, libc::IPPROTO_TCP).unwrap_or_default();
        for InetDiag { local, remote, .. } in listed.into_iter().filter(|l| is_in_way(l, local)) {
            let _ = diag.destroy(local, remote);
        }
    }
}

fn is_in_way(listed: &InetDiag, local: SocketAddr) -> bool {
    let (own, at) = (canonical(listed.local), canonical(local));
    let is_left = listed.inode == 0 && [FIN_WAIT2, TIME_WAIT].contains(&listed.state);
    is_left && own.port() == at.port() && (own.ip() == at.ip() || at.ip().is_unspecified())
}
