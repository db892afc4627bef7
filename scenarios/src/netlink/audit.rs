//! A socket of audit that has a port, so that the kernel may have been told to send the log there.
//!
//! Verified: the dump is refused, naming the descriptor; the socket is left as it is.
//! CRIU: dumps it, and the log no longer arrives.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::net::netlink::{AUDIT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use crate::{Context, Scenario, sys};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).missing(missing).refused("audit");

fn missing() -> Option<String> {
    let audit = socket(AddressFamily::NETLINK, SocketType::RAW, Some(AUDIT));
    audit.err().map(|error| format!("no sockets of audit: {error}"))
}

fn run(cx: &mut Context) {
    let audit = socket(AddressFamily::NETLINK, SocketType::RAW, Some(AUDIT)).expect("socket");
    bind(&audit, &SocketAddrNetlink::new(0, 0)).expect("bind");
    sys::dup2(audit.as_raw_fd(), 42);
    drop(audit);
    // SAFETY: the number was just made, and nobody else has it.
    let audit = unsafe { OwnedFd::from_raw_fd(42) };
    let name = || getsockname(&audit).ok().and_then(|any| SocketAddrNetlink::try_from(any).ok());
    let before = name();
    check!(before.is_some_and(|name| name.pid() != 0), "it has a port");

    cx.ready_and_wait();

    check_eq!(name(), before, "the name");
}
