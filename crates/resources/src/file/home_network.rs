//! The network namespace that this process is in: sockets of others are
//! refused.

use std::os::fd::{AsFd, BorrowedFd};

use dormouse_kernel::socket::SocketOption;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::Probe;
use crate::{Error, Result};

/// `SO_NETNS_COOKIE`.
const NAMESPACE: SocketOption = SocketOption::of_socket(71);

fn namespace(socket: BorrowedFd<'_>) -> Result<[u8; 8]> {
    let mut cookie = [0; 8];
    NAMESPACE
        .get_into(socket, &mut cookie)
        .map_err(Error::kernel("SO_NETNS_COOKIE", "a socket"))?;
    Ok(cookie)
}

/// The namespace, once it is known.
#[derive(Default)]
pub(super) struct HomeNetwork(Option<[u8; 8]>);

impl HomeNetwork {
    /// Fails if a socket is of another one.
    pub(super) fn check(&mut self, socket: BorrowedFd<'_>, probe: &Probe) -> Result<()> {
        let home = match self.0 {
            Some(home) => home,
            None => {
                let own =
                    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                        .map_err(Error::kernel("socket", "a new socket"))?;
                *self.0.insert(namespace(own.as_fd())?)
            }
        };
        if namespace(socket)? == home {
            return Ok(());
        }
        Err(Error::Unsupported {
            object: "a socket",
            detail: probe.link.clone().into(),
            reason: "it belongs to another network namespace",
            hint: "run dormouse inside of that namespace (nsenter --net)",
        })
    }
}
