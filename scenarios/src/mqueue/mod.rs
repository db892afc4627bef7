//! POSIX message queues.

pub(crate) mod messages;
pub(crate) mod mounted;
pub(crate) mod notify;
pub(crate) mod shared;
pub(crate) mod unlinked;
