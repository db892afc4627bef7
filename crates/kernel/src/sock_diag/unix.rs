//! Unix sockets: `include/uapi/linux/unix_diag.h`.

use super::message::number;
use super::{Attributes, Error, Malformed, SockDiag};
use rustix::net::Shutdown;

/// A unix socket that some process has, or that is in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixDiag {
    /// `SOCK_STREAM`, `SOCK_DGRAM` or `SOCK_SEQPACKET`.
    pub kind: i32,
    /// `TCP_CLOSE`, `TCP_ESTABLISHED` or `TCP_LISTEN`.
    pub state: u8,
    /// Its inode number.
    pub inode: u32,
    /// Its address as bound: empty if it has none; an abstract one begins with
    /// a zero byte.
    pub name: Vec<u8>,
    /// The file it is bound to.
    pub file: Option<UnixFile>,
    /// Whom it is connected to.
    pub peer: UnixPeer,
    /// For one that listens: inode numbers of those who wait to be accepted,
    /// first to be accepted first; zero stands for one who has closed.
    pub waiting: Vec<u32>,
    /// Bytes it could read now, or how many wait to be accepted.
    pub received: u32,
    /// Memory its bytes take that were not read yet, or how many may wait.
    pub sent: u32,
    /// Directions that are shut down.
    pub shutdown: Option<Shutdown>,
}

/// The inode of a socket's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixFile {
    /// The inode's number.
    pub inode: u32,
    /// Its device, as the kernel writes it (`huge_encode_dev` of 32 bits).
    pub device: u32,
}

/// Whom a socket is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnixPeer {
    /// Nobody.
    None,
    /// Somebody who has closed, or was not accepted yet.
    Hidden,
    /// The socket with this inode number.
    Socket(u32),
}

/// `udiag_show`: everything but memory and owner.
const SHOW: u32 = 1 | 2 | 4 | 8 | 16;

impl SockDiag {
    /// Lists all unix sockets of the network namespace that have an inode, in
    /// no order.
    ///
    /// Others come and go meanwhile. Who comes or goes beside a socket that
    /// stays may hide it, or have it listed twice.
    ///
    /// # Errors
    /// The kernel does not list them (`CONFIG_UNIX_DIAG`).
    pub fn unix(&self) -> Result<Vec<UnixDiag>, Error> {
        // struct unix_diag_req: family, protocol, padding, states, inode,
        // show, cookie.
        let mut request = [0; 24];
        request[0] = libc::AF_UNIX as u8;
        request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        request[12..16].copy_from_slice(&SHOW.to_ne_bytes());
        self.list(&request, parse)
    }
}

/// `struct unix_diag_msg` (family, type, state, padding, inode, cookie) and
/// its attributes.
fn parse(answer: &[u8]) -> Result<UnixDiag, Malformed> {
    const FIXED: usize = 16;
    let (fixed, attributes) = answer.split_at_checked(FIXED).ok_or(Malformed)?;
    let mut socket = UnixDiag {
        kind: fixed[1].into(),
        state: fixed[2],
        inode: number(fixed, 4)?,
        name: Vec::new(),
        file: None,
        peer: UnixPeer::None,
        waiting: Vec::new(),
        received: 0,
        sent: 0,
        shutdown: None,
    };
    for attribute in Attributes::new(attributes) {
        let (kind, value) = attribute?;
        match kind {
            0 => socket.name = value.to_vec(),
            1 => {
                socket.file =
                    Some(UnixFile { inode: number(value, 0)?, device: number(value, 4)? });
            }
            2 => {
                socket.peer = match number(value, 0)? {
                    0 => UnixPeer::Hidden,
                    inode => UnixPeer::Socket(inode),
                };
            }
            3 => {
                let (numbers, _) = value.as_chunks();
                socket.waiting = numbers.iter().map(|&bytes| u32::from_ne_bytes(bytes)).collect();
            }
            4 => (socket.received, socket.sent) = (number(value, 0)?, number(value, 4)?),
            // RCV_SHUTDOWN and SEND_SHUTDOWN.
            6 => {
                socket.shutdown = match value.first().ok_or(Malformed)? & 3 {
                    1 => Some(Shutdown::Read),
                    2 => Some(Shutdown::Write),
                    3 => Some(Shutdown::Both),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::{SockDiag, UnixDiag, UnixPeer};
    use rustix::fs::fstat;
    use rustix::net::{
        AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen,
        shutdown, socket, socketpair,
    };
    use std::os::fd::AsFd;

    fn inode(file: impl AsFd) -> u32 {
        u32::try_from(fstat(file).unwrap().st_ino).unwrap()
    }

    fn find(listed: &[UnixDiag], inode: u32) -> &UnixDiag {
        listed.iter().find(|socket| socket.inode == inode).unwrap()
    }

    #[test]
    fn a_pair_is_listed() {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::io::write(&one, b"seven b").unwrap();
        shutdown(&one, Shutdown::Write).unwrap();
        let listed = SockDiag::open().unwrap().unix().unwrap();
        let found = find(&listed, inode(&one));
        assert_eq!(found.peer, UnixPeer::Socket(inode(&other)));
        assert_eq!((found.kind, found.state), (libc::SOCK_STREAM, 1));
        assert_eq!((found.shutdown, found.received), (Some(Shutdown::Write), 0));
        assert!(found.sent >= 7 && found.name.is_empty());
        let found = find(&listed, inode(&other));
        assert_eq!((found.shutdown, found.received), (Some(Shutdown::Read), 7));
        drop(other);
        let listed = SockDiag::open().unwrap().unix().unwrap();
        assert_eq!(find(&listed, inode(&one)).peer, UnixPeer::Hidden);
    }

    #[test]
    fn who_waits_to_be_accepted_is_listed() {
        let stream = || socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let listener = stream();
        let name = format!("dormouse-{}", std::process::id());
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        bind(&listener, &address).unwrap();
        listen(&listener, 5).unwrap();
        let clients = [stream(), stream()];
        clients.iter().for_each(|client| connect(client, &address).unwrap());
        let listed = SockDiag::open().unwrap().unix().unwrap();
        let found = find(&listed, inode(&listener));
        assert_eq!(found.waiting, [inode(&clients[0]), inode(&clients[1])]);
        assert_eq!((found.received, found.sent, found.state), (2, 5, 10));
        assert_eq!((found.name[0], &found.name[1..]), (0, name.as_bytes()));
        assert_eq!(find(&listed, inode(&clients[0])).peer, UnixPeer::Hidden);
    }
}
