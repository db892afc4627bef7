//! Internet sockets: TCP, MPTCP listeners, UDP, UDP-Lite, ICMP echo, raw.
//!
//! Kernel object: `struct inet_sock`, with the addresses of both sides, the
//! state of its protocol, and options.
//! Truth from: `getsockopt(2)` and `getsockname(2)` on a duplicate; which
//! directions are shut down, and whether segments are signed, by `sock_diag`,
//! listed once for each family and protocol; what no call tells, by reading the
//! kernel's memory.
//! Image: `inet_sk_entry`; `sk-queues.img`. Options that CRIU has no field for, and the owner,
//! are in fields of our own.
//! Create: `socket(2)`: new, so that epolls find it as they expect.
//! Fill: contents: options, addresses, groups, what waits to be read; then all
//! that listens, then peers.
//! Not preserved: options that the kernel only takes (`TCP_MD5SIG` is refused,
//! `TCP_QUICKACK`, IPsec policies, `IP_ROUTER_ALERT`, `IPV6_JOIN_ANYCAST`);
//! whether an address was bound or given by `connect`; who was chosen for what
//! is new among those that share a port, where no program chooses; such a
//! program if the socket has `SO_REUSEPORT` no more; what the network has said
//! of a connection that goes on all the same (`sk_err_soft`, an ICMP message).
//! Handshakes that are not done when the dump begins, nor a second later: their
//! peers ask again. For how long connections are kept back already (`TCP_DEFER_ACCEPT`):
//! that begins anew; where they cannot be kept back again, they can be accepted.
//! Refused: connections of TCP that wait to be accepted, if the kernel cannot be
//! had to make them again as they are (see [`unaccepted`]), and those of MPTCP;
//! packets that wait in raw and ICMP sockets; what came out of band by TCP, if its
//! connection has ended, or before Linux 6.9; `MSG_ZEROCOPY`, which is counted; datagrams that are held
//! back; errors to be told, but for those that connections of TCP usually end
//! with, and see [`reports`]; eBPF programs that choose among sockets; SCTP and other protocols; other
//! network namespaces.
//! Connections of TCP: `tcp-stream-INO.img`; see [`connection`] for their state,
//! and [`held`] for how a dump comes by it. Those that wait to be accepted are in
//! the entry of the socket that listens, unless their other ends connect again.
//! Kernel needed: nftables, unless packets are not held up; `CAP_NET_ADMIN`; Linux
//! 6.9 for connections that wait to be accepted, and come from elsewhere.
//! Scenarios: `scenarios/src/inet`, `scenarios/src/tcp`.

mod connected;
mod connection;
mod datagrams;
mod deferred;
mod ended;
mod held;
mod inside;
mod leftovers;
mod likeness;
mod listing;
mod live;
mod memberships;
mod options;
mod reports;
mod segment;
mod selection;
mod socket;
mod unaccepted;

pub use held::{HeldConnections, unlock_network};
pub use inside::InsideError;
pub use live::Connections;
pub(super) use socket::Inet;
