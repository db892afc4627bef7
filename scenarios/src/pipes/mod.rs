//! Pipes and fifos: bytes under way, capacity, ends.

pub(crate) mod buffers;
pub(crate) mod bytes;
pub(crate) mod capacity;
pub(crate) mod ends;
pub(crate) mod fifo;
pub(crate) mod packets;
pub(crate) mod shared;
