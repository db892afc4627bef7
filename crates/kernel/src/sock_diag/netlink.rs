//! Netlink sockets: `include/uapi/linux/netlink_diag.h`.

use super::message::number;
use super::{Attributes, Error, Malformed, SockDiag};

/// A netlink socket that has a port or is a member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetlinkDiag {
    /// Its inode number; zero for those of the kernel.
    pub inode: u32,
    /// Whether it has said whom it talks to.
    pub connected: bool,
    /// Whether an answer is being given to it in parts.
    pub answering: bool,
}

/// `NDIAG_PROTO_ALL`.
const ALL: u8 = 255;
/// `NDIAG_SHOW_FLAGS`.
const SHOW: u32 = 8;
const NETLINK_DIAG_FLAGS: u16 = 4;
/// `NDIAG_FLAG_CB_RUNNING`.
const RUNNING: u32 = 1;

impl SockDiag {
    /// Lists the netlink sockets of the network namespace that have a port or
    /// are members of a group, in no order.
    ///
    /// # Errors
    /// The kernel does not list them (`CONFIG_NETLINK_DIAG`).
    pub fn netlink(&self) -> Result<Vec<NetlinkDiag>, Error> {
        // struct netlink_diag_req: family, protocol, padding, inode, show,
        // cookie.
        let mut request = [0; 20];
        request[0] = libc::AF_NETLINK as u8;
        request[1] = ALL;
        request[8..12].copy_from_slice(&SHOW.to_ne_bytes());
        self.list(&request, parse)
    }
}

/// `struct netlink_diag_msg` (family, type, protocol, state, port, peer's port
/// and group, inode, cookie) and its attributes.
fn parse(answer: &[u8]) -> Result<NetlinkDiag, Malformed> {
    const FIXED: usize = 28;
    let (fixed, attributes) = answer.split_at_checked(FIXED).ok_or(Malformed)?;
    let mut socket = NetlinkDiag {
        inode: number(fixed, 16)?,
        // NETLINK_CONNECTED, net/netlink/af_netlink.c.
        connected: fixed[3] == 1,
        answering: false,
    };
    for attribute in Attributes::new(attributes) {
        if let (NETLINK_DIAG_FLAGS, value) = attribute? {
            socket.answering = number(value, 0)? & RUNNING != 0;
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::SockDiag;
    use rustix::fs::fstat;

    #[test]
    fn the_asking_socket_is_listed() {
        let diag = SockDiag::open().unwrap();
        // It has a port once it has asked.
        diag.netlink().unwrap();
        let listed = diag.netlink().unwrap();
        let inode = u32::try_from(fstat(&diag.0).unwrap().st_ino).unwrap();
        let own = listed.iter().find(|socket| socket.inode == inode).unwrap();
        assert!(!own.connected && own.answering);
    }
}
