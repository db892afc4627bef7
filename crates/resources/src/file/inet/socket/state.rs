//! What a socket is to the world, as the kernel tells.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use dormouse_kernel::Errno;
use dormouse_kernel::sock_diag::InetDiag;
use dormouse_kernel::socket::SocketOption;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketAddrAny, connect, getpeername};

use super::Inet;
use crate::file::inet::connected::{connected, ended};
use crate::file::inet::connection::{Connection, TcpState};
use crate::file::inet::datagrams::{Datagram, Unreadable, peek_all};
use crate::file::inet::ended::{Ended, is_refused};
use crate::file::inet::listing::{Listing, make};
use crate::file::inet::options::{Kind, TCP};
use crate::file::inet::unaccepted::{Child, Unkept};
use crate::file::{CollectCx, FileKind, Probe, TcpConnections};
use crate::{Error, Result};

/// What it is to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::file::inet) enum State {
    /// Nothing yet, or nothing any more.
    Unconnected,
    /// It was a connection of TCP, or was to be one.
    Ended(Ended),
    /// It takes connections.
    Listening {
        /// How many may wait to be accepted.
        backlog: u32,
        /// Those that do, unless their other ends connect them again.
        waiting: Vec<Child>,
    },
    /// Datagrams go to this address, and come from there.
    Connected {
        /// Where it is.
        remote: SocketAddr,
        /// Whether it has to tell that nobody takes them.
        refused: bool,
    },
    /// An open connection of TCP.
    Open(Box<Connection>),
    /// A connection of TCP that comes back closed.
    Lost {
        /// What it was.
        state: TcpState,
        /// Whom it was connected to.
        remote: SocketAddr,
    },
}

// include/net/tcp_states.h.
pub(super) const TCP_ESTABLISHED: u32 = 1;
pub(super) const TCP_CLOSE: u32 = 7;
pub(super) const TCP_LISTEN: u32 = 10;

/// A longer backlog than any kernel allows (`somaxconn` is an int).
pub(super) const MAX_BACKLOG: u32 = i32::MAX as u32;

pub(super) fn option(name: i32) -> SocketOption {
    SocketOption::of_socket(name)
}

pub(in crate::file::inet) fn kernel(call: &'static str) -> impl FnOnce(Errno) -> Error {
    Error::kernel(call, Inet::NAME)
}

/// The beginning of a `struct tcp_info`.
struct TcpInfo {
    state: u32,
    /// For one that listens: how many wait to be accepted.
    waiting: u32,
    /// And how many may.
    backlog: u32,
}

impl TcpInfo {
    /// `None`: an MPTCP socket without any subflow yet.
    fn read(socket: BorrowedFd<'_>) -> Result<Option<Self>> {
        let mut info = [0; 32];
        match SocketOption::new(TCP, libc::TCP_INFO).get_into(socket, &mut info) {
            Ok(_) => {}
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(source) => return Err(kernel("TCP_INFO")(source)),
        }
        let number = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| info[at + byte]));
        Ok(Some(Self { state: info[0].into(), waiting: number(24), backlog: number(28) }))
    }
}

pub(in crate::file::inet) fn refuse(
    probe: &Probe,
    reason: &'static str,
    hint: &'static str,
) -> Error {
    Error::Unsupported { object: "a socket", detail: probe.link.clone().into(), reason, hint }
}

/// An address, unless it is none at all.
pub(in crate::file::inet) fn address(any: Option<SocketAddrAny>) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(any?).ok()?;
    (address.port() != 0 || !address.ip().is_unspecified()).then_some(address)
}

pub(super) fn state(
    cx: &CollectCx<'_>,
    probe: &Probe,
    socket: BorrowedFd<'_>,
    (kind, local): (Kind, Option<SocketAddr>),
) -> Result<State> {
    if !kind.is_stream() {
        let peer = match getpeername(socket) {
            Ok(peer) => address(peer),
            Err(Errno::NOTCONN) => portless_peer(cx, probe, (socket, kind))?,
            Err(source) => return Err(kernel("getpeername")(source)),
        };
        let Some(remote) = peer else { return Ok(State::Unconnected) };
        let refused = is_refused(&mut cx.part::<Listing>(), socket, (kind, local))?;
        return Ok(State::Connected { remote, refused });
    }
    let keeps = cx.options.tcp == TcpConnections::Keep && kind.protocol == TCP;
    if keeps {
        // Before it is read whether others wait.
        cx.hold_connections()?;
    }
    let Some(TcpInfo { state, waiting, backlog }) = TcpInfo::read(socket)? else {
        return Ok(State::Unconnected);
    };
    match state {
        TCP_CLOSE => ended(cx, probe, (socket, kind)),
        TCP_LISTEN if !cx.options.skip_in_flight => {
            let waiting = match (keeps, kind.protocol) {
                (true, _) => cx.unaccepted(probe.id, waiting as usize),
                (false, TCP) if waiting == 0 && !cx.keeps_back(socket)? => Ok(Vec::new()),
                (false, TCP) => Err(Unkept::NotAskedFor),
                (false, _) if waiting == 0 => Ok(Vec::new()),
                (false, _) => Err(Unkept::Multipath),
            };
            let waiting = waiting.map_err(|unkept| unkept.refusal(probe))?;
            Ok(State::Listening { backlog, waiting })
        }
        TCP_LISTEN => Ok(State::Listening { backlog, waiting: Vec::new() }),
        _ if kind.protocol != TCP => Err(refuse(
            probe,
            "an open MPTCP connection cannot be saved",
            "dump the program while it has none",
        )),
        state => connected(cx, probe, socket, (kind, state)),
    }
}

/// Whom a socket is connected to without a port, as raw ones are: `getpeername(2)` says that it is not.
fn portless_peer(
    cx: &CollectCx<'_>,
    probe: &Probe,
    (socket, kind): (BorrowedFd<'_>, Kind),
) -> Result<Option<SocketAddr>> {
    let mut listing = cx.part::<Listing>();
    if kind.is_udp() {
        // Without a port of its own it is not listed, and not connected.
        let listed = listing.of(kind, probe.stat.st_ino as u32)?;
        let is_connected = |listed: &InetDiag| u32::from(listed.state) == TCP_ESTABLISHED;
        return Ok(listed.filter(is_connected).map(|listed| listed.remote));
    }
    let inside = listing.inside().map_err(Error::InetReader)?;
    inside.peer(socket, kind.is_v6()).map_err(Error::InetReader)
}

/// What waits to be read.
pub(super) fn queue(
    probe: &Probe,
    socket: BorrowedFd<'_>,
    (kind, local): (Kind, Option<SocketAddr>),
    (reads, refused): (bool, bool),
    listing: &mut Listing,
) -> Result<Vec<Datagram>> {
    // What has left the socket may still wait for its way, such as for the
    // answer of a neighbour, and needs the socket no more.
    let unsent = unsent(socket).map_err(kernel("SO_MEMINFO"))?;
    if unsent > 0 && listing.holds_back(socket)? {
        return Err(refuse(
            probe,
            "a datagram is held back (UDP_CORK, MSG_MORE), and cannot be read",
            "dump again when the program has sent it",
        ));
    }
    // FIONREAD does not tell an empty datagram from none.
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).map_err(kernel("poll"))?;
    let (waits, tells) = {
        let polled = polled[0].revents();
        (polled.contains(PollFlags::IN), polled.contains(PollFlags::ERR))
    };
    if tells && (waits || !refused) {
        // To look would take it out.
        return Err(refuse(
            probe,
            "it has an error to tell, which cannot be put back",
            "dump again when the program has read it",
        ));
    }
    if !waits {
        return Ok(Vec::new());
    }
    if kind.is_udp() {
        let inside = listing.inside().map_err(Error::InetReader)?;
        let waiting = inside.waiting(socket, kind.is_v6()).map_err(Error::InetReader)?;
        let of_group = local.is_some_and(|local| local.ip().is_multicast());
        return peek_all(socket, waiting, of_group).map_err(|why| match why {
            Unreadable::Moving => refuse(
                probe,
                "what waits to be read does not stand still",
                "dump again when less comes in",
            ),
            Unreadable::TooLong => refuse(
                probe,
                "a datagram that waits to be read is too long to be delivered again",
                "dump again when the program has read it",
            ),
            Unreadable::Kernel(source) => kernel("recvmsg")(source),
        });
    }
    if reads {
        return Err(refuse(
            probe,
            "packets wait to be read, and would be lost",
            "dump again when the program has read them",
        ));
    }
    Ok(Vec::new())
}

/// Bytes of memory that what was not sent yet takes.
fn unsent(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    // SK_MEMINFO_WMEM_ALLOC, include/uapi/linux/sock_diag.h.
    const ALLOCATED: usize = 2;
    let mut info = [0; 36];
    option(libc::SO_MEMINFO).get_into(socket, &mut info)?;
    Ok(u32::from_ne_bytes([0, 1, 2, 3].map(|byte| info[4 * ALLOCATED + byte])))
}

/// Whether an address is that of all hosts of a network: the kernel lets no
/// socket send there that has not asked for it.
pub(super) fn is_for_all(local: SocketAddr) -> bool {
    let family = if local.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let probe = make(Kind { family, kind: libc::SOCK_DGRAM, protocol: 0 });
    probe.and_then(|probe| connect(probe, &local)) == Err(Errno::ACCESS)
}

/// Why others are refused, and what can be done.
pub(super) fn unknown(kind: Kind) -> (&'static str, &'static str) {
    // include/uapi/linux/in.h.
    const DCCP: i32 = 33;
    const SMC: i32 = 256;
    const SEQUENCED: i32 = libc::SOCK_SEQPACKET;
    match (kind.kind, kind.protocol) {
        (_, libc::IPPROTO_SCTP) | (SEQUENCED, _) => (
            "the kernel does not tell the state of SCTP associations",
            "dump the program while it has no SCTP socket open, or have it talk by TCP",
        ),
        (_, DCCP) => (
            "the kernel does not tell the state of DCCP connections",
            "dump the program while it has no DCCP socket open",
        ),
        (_, SMC) => (
            "the state of SMC connections is in the network card",
            "have the program talk by TCP (smc_run adds SMC to programs that know nothing of it)",
        ),
        _ => (
            "its protocol is none of TCP, UDP, UDP-Lite, ICMP and raw IP",
            "dump the program while it has no such socket open",
        ),
    }
}

/// Kinds of sockets whose state is known.
pub(super) fn is_known(kind: Kind) -> bool {
    match kind.kind {
        libc::SOCK_STREAM => [libc::IPPROTO_TCP, libc::IPPROTO_MPTCP].contains(&kind.protocol),
        libc::SOCK_DGRAM => {
            let echo = if kind.is_v6() { libc::IPPROTO_ICMPV6 } else { libc::IPPROTO_ICMP };
            kind.is_udp() || kind.protocol == echo
        }
        // Any number is one, be it of TCP's.
        libc::SOCK_RAW => kind.protocol > 0,
        _ => false,
    }
}
