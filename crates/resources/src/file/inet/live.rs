//! Restored connections, until they live again.

use std::os::fd::OwnedFd;

use dormouse_kernel::socket::SocketOption;
use dormouse_kernel::tcp::{self, Repair};

use crate::{Error, Result};

/// Restored TCP connections, under repair: if they are dropped, their peers
/// hear nothing.
#[derive(Debug)]
pub struct Connections(Vec<(OwnedFd, bool)>);

impl Connections {
    /// Each with its `SO_REUSEADDR`.
    pub(crate) fn new(sockets: impl IntoIterator<Item = (OwnedFd, bool)>) -> Self {
        Self(sockets.into_iter().collect())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has them go on.
    ///
    /// # Errors
    /// None that is known of.
    pub fn go_live(self) -> Result<()> {
        for (socket, reuse) in self.0 {
            let failed = || Error::kernel("TCP_REPAIR", "a TCP connection");
            tcp::repair(&socket, Repair::Off).map_err(failed())?;
            let option = SocketOption::of_socket(libc::SO_REUSEADDR);
            option.set(&socket, i32::from(reuse)).map_err(failed())?;
        }
        Ok(())
    }
}
