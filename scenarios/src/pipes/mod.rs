//! Pipes and fifos: bytes under way, capacity, ends.

pub(crate) mod bytes;
