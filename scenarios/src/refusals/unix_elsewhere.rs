//! A unix socket of another network namespace, among so many descriptors that they are not asked
//! for one by one.
//!
//! Verified: the dump is refused, naming the descriptor; the socket is still there.
//! CRIU: saves it as a socket of the tree's own namespace.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use crate::inet::place::option;
use crate::{Context, Scenario, Users};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).refused("unix socket");

fn run(cx: &mut Context) {
    let other = std::thread::spawn(|| {
        // SAFETY: only this thread changes, and it ends.
        check_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "unshare");
        UnixDatagram::unbound().expect("socket")
    });
    super::at_42(other.join().expect("the thread").into_raw_fd());
    let many: Vec<_> = (0..125).map(|_| UnixDatagram::pair().expect("socketpair")).collect();

    cx.ready_and_wait();

    // SAFETY: the number has been this descriptor's all along.
    let socket = unsafe { OwnedFd::from_raw_fd(42) };
    let domain = option(&socket, (libc::SOL_SOCKET, libc::SO_DOMAIN));
    check_eq!(domain, Ok(libc::AF_UNIX.to_ne_bytes().to_vec()), "the socket is there");
    drop(many);
}
