//! Packet sockets.

pub(crate) mod queued;
pub(crate) mod rings;
pub(crate) mod sockets;
