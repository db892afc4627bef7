//! Who a process is and what it may do.

pub(crate) mod ids;
