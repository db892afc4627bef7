//! Keys that the kernel keeps for threads, processes and sessions.

pub(crate) mod families;
pub(crate) mod own;
pub(crate) mod session;
