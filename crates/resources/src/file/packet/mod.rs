//! Packet sockets.
//!
//! Kernel object: `struct packet_sock`: what it receives and where, options, rings,
//! memberships, its part in a fanout group.
//! Truth from: `sock_diag`, listed once; `getsockopt(2)` on a duplicate; the rings, mapped;
//! the kernel's memory, for how far it has got in them.
//! Image: `packet_sock_entry`. Names of interfaces, options that CRIU has no field for, and what
//! is in rings, are in fields of our own.
//! Create: `socket(2)`, with its rings, which may be mapped, to receive nothing yet; `SOCK_PACKET`
//! receives at once.
//! Fill: armed: options, filter, then bound, memberships, fanout.
//! Not preserved: packets that pass between dump and restore; statistics; see [`rings`].
//! Refused: packets that wait to be read, but for those in rings; errors to be told; a socket bound
//! to an interface that is gone; a fanout group that a BPF program divides; other network
//! namespaces; a mapping of a part of the rings, or of a socket that is not open any more.
//! Kernel needed: BTF, and the loopback interface up, where packets have come into rings, or gone.
//! Scenarios: `scenarios/src/packet`.

mod progress;
mod rings;
mod socket;

pub(super) use socket::Packet;
pub use socket::packet_rings_len;
