//! Packet sockets.

pub(crate) mod sockets;
