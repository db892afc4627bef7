//! Netlink sockets.

pub(crate) mod audit;
pub(crate) mod queued;
pub(crate) mod sockets;
