//! A vsock socket.
//!
//! Verified: the dump is refused, naming the descriptor; the socket is still there.
//! CRIU: refuses it.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, socket};

use crate::inet::place::option;
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).refused("vsock").missing(|| {
        let works = create().is_ok();
        (!works).then(|| "vsock is not available".into())
    });

fn create() -> rustix::io::Result<OwnedFd> {
    let vsock = AddressFamily::from_raw(libc::AF_VSOCK as u16);
    socket(vsock, SocketType::STREAM, None)
}

fn run(cx: &mut Context) {
    super::at_42(create().expect("socket").into_raw_fd());

    cx.ready_and_wait();

    // SAFETY: the number has been this descriptor's all along.
    let socket = unsafe { OwnedFd::from_raw_fd(42) };
    let domain = option(&socket, (libc::SOL_SOCKET, libc::SO_DOMAIN));
    check_eq!(domain, Ok(libc::AF_VSOCK.to_ne_bytes().to_vec()), "the socket is there");
}
