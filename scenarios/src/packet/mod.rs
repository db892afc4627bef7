//! Packet sockets.

pub(crate) mod queued;
pub(crate) mod sockets;
