//! Internet sockets: `include/uapi/linux/inet_diag.h`.

use super::{Attributes, BY_FAMILY, DESTROY, Error, Malformed, SockDiag};
use crate::Errno;
use rustix::net::Shutdown;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A TCP, MPTCP, UDP or UDP-Lite socket that has a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InetDiag {
    /// Its inode number; zero if no file is open on it any more.
    pub inode: u32,
    /// `TCP_*`: its state.
    pub state: u8,
    /// Its own address.
    pub local: SocketAddr,
    /// That of its peer; without a port if it has none.
    pub remote: SocketAddr,
    /// Directions that are shut down.
    pub shutdown: Option<Shutdown>,
    /// Whether it signs its segments (`TCP_MD5SIG`).
    pub signed: bool,
    /// Bytes that wait to be read; of one that listens: connections that wait to
    /// be accepted.
    pub waiting: u32,
}

/// `INET_DIAG_REQ_PROTOCOL`: protocols with numbers above 255.
const REQUEST_PROTOCOL: u16 = 3;
const INET_DIAG_SHUTDOWN: u16 = 8;
const INET_DIAG_MD5SIG: u16 = 18;

impl SockDiag {
    /// Lists the sockets of a family (`AF_INET` or `AF_INET6`) and protocol
    /// that have a port, in no order; none if the kernel lacks the protocol.
    ///
    /// Others come and go meanwhile, see [`Self::unix`].
    ///
    /// # Errors
    /// The kernel does not list them (`CONFIG_INET_DIAG`).
    pub fn inet(&self, family: i32, protocol: i32) -> Result<Vec<InetDiag>, Error> {
        let mut request = request(family, protocol);
        if u8::try_from(protocol).is_err() {
            request.extend([8_u16, REQUEST_PROTOCOL].map(u16::to_ne_bytes).as_flattened());
            request.extend(protocol.to_ne_bytes());
        }
        match self.list(&request, parse) {
            Err(Error::Refused { source: Errno::NOENT, .. }) => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// The TCP connection between two addresses, be it of a file or not; `None`
    /// if there is none.
    ///
    /// # Errors
    /// As [`Self::inet`].
    pub fn connection(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Option<InetDiag>, Error> {
        let request = request_one(local, remote);
        match self.ask((BY_FAMILY, libc::NLM_F_ACK), &request, parse) {
            Ok(found) => Ok(found.into_iter().find(|found| found.remote.port() == remote.port())),
            Err(Error::Refused { source: Errno::NOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the TCP connection between two addresses, be it of a file or not;
    /// nothing is sent for one in `TCP_TIME_WAIT` (`tcp_abort` in
    /// `net/ipv4/tcp.c`).
    ///
    /// # Errors
    /// `EPERM`: it takes `CAP_NET_ADMIN`; `ENOENT`: there is none; `EOPNOTSUPP`:
    /// the kernel does not do it (`CONFIG_INET_DIAG_DESTROY`).
    pub fn destroy(&self, local: SocketAddr, remote: SocketAddr) -> Result<(), Error> {
        self.ask((DESTROY, libc::NLM_F_ACK), &request_one(local, remote), parse).map(drop)
    }
}

/// As [`request`], for the one TCP connection between these.
fn request_one(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut request = request(family, libc::IPPROTO_TCP);
    for (end, port, address) in [(local, 8, 12), (remote, 10, 28)] {
        request[port..port + 2].copy_from_slice(&end.port().to_be_bytes());
        match end.ip() {
            IpAddr::V4(ip) => request[address..address + 4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => request[address..address + 16].copy_from_slice(&ip.octets()),
        }
    }
    // INET_DIAG_NOCOOKIE: whichever it is.
    request[48..].fill(0xff);
    request
}

/// A `struct inet_diag_req_v2` for all states: family, protocol, ext, padding,
/// states, id.
fn request(family: i32, protocol: i32) -> Vec<u8> {
    let mut request = vec![0; 56];
    request[0] = family as u8;
    request[1] = u8::try_from(protocol).unwrap_or(libc::IPPROTO_RAW as u8);
    request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    request
}

/// `struct inet_diag_msg` (family, state, timer, retransmits, id, expiry, both
/// queues, user, inode) and its attributes.
fn parse(answer: &[u8]) -> Result<InetDiag, Malformed> {
    const FIXED: usize = 72;
    let (fixed, attributes) = answer.split_at_checked(FIXED).ok_or(Malformed)?;
    let inode = fixed.last_chunk().map(|&bytes| u32::from_ne_bytes(bytes)).ok_or(Malformed)?;
    // struct inet_diag_sockid: both ports, both addresses, in the order of the
    // network.
    let end = |port: usize, address: usize| {
        let of = |bytes: usize| &fixed[address..address + bytes];
        let address: IpAddr = match i32::from(fixed[0]) {
            libc::AF_INET => {
                Ipv4Addr::from(<[u8; 4]>::try_from(of(4)).map_err(|_| Malformed)?).into()
            }
            _ => Ipv6Addr::from(<[u8; 16]>::try_from(of(16)).map_err(|_| Malformed)?).into(),
        };
        Ok(SocketAddr::new(address, u16::from_be_bytes([fixed[port], fixed[port + 1]])))
    };
    let (local, remote) = (end(4, 8)?, end(6, 24)?);
    let state = fixed[1];
    let waiting = [56, 57, 58, 59].map(|at| fixed[at]);
    let mut socket = InetDiag {
        inode,
        state,
        local,
        remote,
        shutdown: None,
        signed: false,
        waiting: u32::from_ne_bytes(waiting),
    };
    for attribute in Attributes::new(attributes) {
        match attribute? {
            // RCV_SHUTDOWN and SEND_SHUTDOWN.
            (INET_DIAG_SHUTDOWN, value) => {
                socket.shutdown = match value.first().ok_or(Malformed)? & 3 {
                    1 => Some(Shutdown::Read),
                    2 => Some(Shutdown::Write),
                    3 => Some(Shutdown::Both),
                    _ => None,
                };
            }
            (INET_DIAG_MD5SIG, value) => socket.signed = !value.is_empty(),
            _ => {}
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::SockDiag;
    use rustix::fs::fstat;
    use rustix::net::Shutdown;
    use std::net::{Shutdown as Direction, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    fn inode(file: impl AsFd) -> u32 {
        u32::try_from(fstat(file).unwrap().st_ino).unwrap()
    }

    #[test]
    fn connections_are_listed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        one.shutdown(Direction::Write).unwrap();
        let listed = SockDiag::open().unwrap().inet(libc::AF_INET, libc::IPPROTO_TCP).unwrap();
        let find = |inode| listed.iter().find(|socket| socket.inode == inode).unwrap();
        let listening = find(inode(&listener));
        assert_eq!((listening.state, listening.waiting), (10, 1));
        let found = find(inode(&one));
        assert_eq!(found.shutdown, Some(Shutdown::Write));
        let ends = (one.local_addr().unwrap(), one.peer_addr().unwrap());
        assert_eq!((found.local, found.remote), ends);
    }

    #[test]
    fn connections_are_found_by_their_ends() {
        let diag = SockDiag::open().unwrap();
        for here in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(here).unwrap();
            let (there, nobody) = (listener.local_addr().unwrap(), "127.0.0.1:1".parse().unwrap());
            let client = TcpStream::connect(there).unwrap();
            let found = diag.connection(there, client.local_addr().unwrap()).unwrap().unwrap();
            assert_eq!(
                (found.inode, found.state, found.remote),
                (0, 1, client.local_addr().unwrap())
            );
            assert_eq!(diag.connection(there, nobody).unwrap(), None);
        }
    }

    #[test]
    fn datagram_sockets_are_listed_and_absent_protocols_are_empty() {
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        let diag = SockDiag::open().unwrap();
        let listed = diag.inet(libc::AF_INET6, libc::IPPROTO_UDP).unwrap();
        assert!(listed.iter().any(|listed| listed.inode == inode(&socket)));
        assert_eq!(diag.inet(libc::AF_INET, 254).unwrap(), []);
        diag.inet(libc::AF_INET, libc::IPPROTO_MPTCP).unwrap();
    }
}
