//! Restored connections, until they live again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use dormouse_kernel::Errno;
use dormouse_kernel::socket::SocketOption;
use dormouse_kernel::tcp::{self, Repair};

use rustix::net::{getpeername, getsockname};

use super::held::canonical;
use super::socket::address;
use crate::{Error, Result};

/// Restored TCP connections, under repair: if they are dropped, their peers
/// hear nothing.
#[derive(Debug)]
pub struct Connections {
    sockets: Vec<(OwnedFd, bool)>,
    /// The ends of those whose peers are kept back by listeners, the peer's last.
    kept_back: BTreeSet<[SocketAddr; 2]>,
    /// Whether there are others, which wait to be accepted.
    others: bool,
}

impl Connections {
    /// Each with its `SO_REUSEADDR`; the ends of those whose peers are kept back;
    /// and whether others wait to be accepted.
    pub(crate) fn new(
        sockets: impl IntoIterator<Item = (OwnedFd, bool)>,
        kept_back: BTreeSet<[SocketAddr; 2]>,
        others: bool,
    ) -> Self {
        Self { sockets: sockets.into_iter().collect(), kept_back, others }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty() && !self.others
    }

    /// Has them go on.
    ///
    /// # Errors
    /// None that is known of.
    pub fn go_live(self) -> Result<()> {
        for (socket, reuse) in self.sockets {
            let failed = || Error::kernel("TCP_REPAIR", "a TCP connection");
            // Asked for its window, a listener would tell a time that it does not
            // know of later.
            let is_kept_back =
                !self.kept_back.is_empty() && self.kept_back.contains(&ends(&socket)?);
            let how = if is_kept_back { Repair::OffSilently } else { Repair::Off };
            tcp::repair(&socket, how).map_err(failed())?;
            let option = SocketOption::of_socket(libc::SO_REUSEADDR);
            option.set(&socket, i32::from(reuse)).map_err(failed())?;
        }
        Ok(())
    }
}

/// The addresses of a connection, the peer's last.
fn ends(socket: &OwnedFd) -> Result<[SocketAddr; 2]> {
    let own = getsockname(socket).map_err(Error::kernel("getsockname", "a TCP connection"))?;
    let peer = getpeername(socket).map_err(Error::kernel("getpeername", "a TCP connection"))?;
    match [address(Some(own)), address(peer)] {
        [Some(own), Some(peer)] => Ok([own, peer].map(canonical)),
        _ => Err(Error::kernel("getsockname", "a TCP connection")(Errno::INVAL)),
    }
}
