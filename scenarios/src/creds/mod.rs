//! Who a process is and what it may do.

pub(crate) mod capabilities;
pub(crate) mod dumpable;
pub(crate) mod ids;
pub(crate) mod login_uid;
pub(crate) mod no_new_privs;
pub(crate) mod plain;
pub(crate) mod securebits;
