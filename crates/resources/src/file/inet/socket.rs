//! A socket, from probe to probe.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::inet::{InetMembershipEntry, InetSkEntry};
use dormouse_image::proto::files::socket::SkShutdown;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::Errno;
use dormouse_kernel::socket::SocketOption;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid, fchown};
use rustix::net::{
    Shutdown, SocketAddrAny, bind, connect, getpeername, getsockname, listen, shutdown,
};

use super::interfaces;
use super::listing::{Listing, make};
use super::memberships::Membership;
use super::options::{Fields, Kind, Moment, ProtocolOptions, TCP};
use crate::corrupt::corrupt;
use crate::file::socket_options::SocketOptions;
use crate::file::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, SocketFamily, Status,
};
use crate::{Error, Result};

/// An internet socket.
#[derive(Debug)]
pub struct Inet {
    status: Status,
    inode: u32,
    owner: Option<(u32, u32)>,
    kind: Kind,
    /// The address it is bound to.
    local: Option<SocketAddr>,
    state: State,
    shutdown: Option<Shutdown>,
    options: SocketOptions,
    protocol_options: ProtocolOptions,
    memberships: Vec<Membership>,
}

/// What it is to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet, or nothing any more.
    Unconnected,
    /// It takes connections.
    Listening {
        /// How many may wait to be accepted.
        backlog: u32,
    },
    /// Datagrams go to this address, and come from there.
    Connected(SocketAddr),
}

// include/net/tcp_states.h.
const TCP_ESTABLISHED: u32 = 1;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

/// A longer backlog than any kernel allows (`somaxconn` is an int).
const MAX_BACKLOG: u32 = i32::MAX as u32;

fn option(name: i32) -> SocketOption {
    SocketOption::of_socket(name)
}

fn kernel(call: &'static str) -> impl FnOnce(Errno) -> Error {
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

fn refuse(probe: &Probe, reason: &'static str, hint: &'static str) -> Error {
    Error::Unsupported { object: "a socket", detail: probe.link.clone().into(), reason, hint }
}

/// An address, unless it is none at all.
fn address(any: Option<SocketAddrAny>) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(any?).ok()?;
    (address.port() != 0 || !address.ip().is_unspecified()).then_some(address)
}

fn state(probe: &Probe, socket: BorrowedFd<'_>, kind: Kind) -> Result<State> {
    if !kind.is_stream() {
        return match getpeername(socket) {
            Ok(peer) => Ok(address(peer).map_or(State::Unconnected, State::Connected)),
            Err(Errno::NOTCONN) => Ok(State::Unconnected),
            Err(source) => Err(kernel("getpeername")(source)),
        };
    }
    let Some(TcpInfo { state, waiting, backlog }) = TcpInfo::read(socket)? else {
        return Ok(State::Unconnected);
    };
    match state {
        TCP_CLOSE => Ok(State::Unconnected),
        TCP_LISTEN if waiting > 0 => Err(refuse(
            probe,
            "connections wait to be accepted, and would be lost",
            "dump again when the program has accepted them",
        )),
        TCP_LISTEN => Ok(State::Listening { backlog }),
        _ => Err(refuse(
            probe,
            "open TCP connections are not saved yet",
            "dump the program while it has none",
        )),
    }
}

/// Datagrams that would be lost are refused.
fn check_queues(probe: &Probe, socket: BorrowedFd<'_>, reads: bool) -> Result<()> {
    if unsent(socket).map_err(kernel("SO_MEMINFO"))? > 0 {
        return Err(refuse(
            probe,
            "a datagram is held back (UDP_CORK, MSG_MORE), and cannot be read",
            "dump again when the program has sent it",
        ));
    }
    // FIONREAD does not tell an empty datagram from none.
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).map_err(kernel("poll"))?;
    if reads && polled[0].revents().contains(PollFlags::IN) {
        return Err(refuse(
            probe,
            "datagrams wait to be read, and would be lost",
            "dump again when the program has read them",
        ));
    }
    Ok(())
}

/// Bytes of memory that what was not sent yet takes.
fn unsent(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    // SK_MEMINFO_WMEM_ALLOC, include/uapi/linux/sock_diag.h.
    const SO_MEMINFO: i32 = 55;
    const ALLOCATED: usize = 2;
    let mut info = [0; 36];
    option(SO_MEMINFO).get_into(socket, &mut info)?;
    Ok(u32::from_ne_bytes([0, 1, 2, 3].map(|byte| info[4 * ALLOCATED + byte])))
}

/// As images have addresses: words in the order of the network.
fn words(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(address) => vec![u32::from_ne_bytes(address.octets())],
        IpAddr::V6(address) => {
            let bytes = address.octets();
            let (words, _) = bytes.as_chunks::<4>();
            words.iter().map(|&word| u32::from_ne_bytes(word)).collect()
        }
    }
}

/// The address in an image; `None` if it is none at all.
fn from_words(
    kind: Kind,
    words: &[u32],
    port: u32,
    scope: u32,
) -> Result<Option<SocketAddr>, &'static str> {
    let port = u16::try_from(port).map_err(|_| "a port is none")?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let address = match (<[u8; 4]>::try_from(&*bytes), <[u8; 16]>::try_from(&*bytes)) {
        (Ok(bytes), _) if !kind.is_v6() => SocketAddr::new(Ipv4Addr::from(bytes).into(), port),
        (_, Ok(bytes)) if kind.is_v6() => {
            SocketAddrV6::new(Ipv6Addr::from(bytes), port, 0, scope).into()
        }
        _ if bytes.is_empty() => return Ok(None),
        _ => return Err("an address is not of its family"),
    };
    Ok((port != 0 || !address.ip().is_unspecified()).then_some(address))
}

fn scope(address: Option<SocketAddr>) -> u32 {
    match address {
        Some(SocketAddr::V6(address)) => address.scope_id(),
        _ => 0,
    }
}

impl FileKind for Inet {
    const NAME: &'static str = "internet socket";
    const TYPE: FdType = FdType::InetSk;
    const RANKS: &'static [FillRank] = &[FillRank::Contents];

    fn claims(probe: &Probe) -> bool {
        matches!(probe.socket_family(), Some(SocketFamily::INET | SocketFamily::INET6))
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let socket = probe.duplicate()?;
        let socket = socket.as_fd();
        let get = |name| option(name).get(socket).map_err(kernel("getsockopt"));
        let kind = Kind {
            family: get(libc::SO_DOMAIN)?,
            kind: get(libc::SO_TYPE)?,
            protocol: get(libc::SO_PROTOCOL)?,
        };
        if !is_known(kind) {
            return Err(refuse(
                probe,
                "its protocol is none of TCP, UDP, UDP-Lite, ICMP and raw IP (SCTP, for one)",
                "dump the program while it has no such socket open",
            ));
        }
        let mut listing = cx.part::<Listing>();
        if !listing.is_at_home(socket, kind)? {
            return Err(refuse(
                probe,
                "it belongs to another network namespace",
                "run dormouse inside of that namespace (nsenter --net)",
            ));
        }
        let state = state(probe, socket, kind)?;
        // The kernel's numbers of socket inodes have 32 bits (get_next_ino).
        let inode = probe.stat.st_ino as u32;
        let listed = listing.of(kind, inode)?;
        if listed.is_some_and(|listed| listed.signed) {
            return Err(refuse(
                probe,
                "its segments are signed (TCP_MD5SIG), and the key cannot be read",
                "dump the program while it has no such socket open",
            ));
        }
        let protocol_options = ProtocolOptions::read(socket, kind)?;
        let shutdown = listed.and_then(|listed| listed.shutdown);
        if !kind.is_stream() {
            check_queues(
                probe,
                socket,
                !matches!(shutdown, Some(Shutdown::Read | Shutdown::Both)),
            )?;
        }
        let protocol_options = protocol_options.differing(listing.fresh(kind)?, kind, false);
        Ok(Self {
            status,
            inode,
            owner: Some((probe.stat.st_uid, probe.stat.st_gid)),
            kind,
            local: address(Some(getsockname(socket).map_err(kernel("getsockname"))?)),
            state,
            shutdown,
            options: SocketOptions::collect(socket)?,
            protocol_options,
            memberships: listing.groups.of(socket, kind)?,
        })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self {
            status,
            inode,
            owner,
            kind,
            local,
            state,
            shutdown,
            options,
            protocol_options,
            memberships,
        } = self;
        let (flags, fown) = status.encode();
        let Fields { v6only, ip, tcp, more } = protocol_options.encode(*kind);
        let (state, backlog, remote) = match *state {
            State::Unconnected => (TCP_CLOSE, 0, None),
            State::Listening { backlog } => (TCP_LISTEN, backlog, None),
            State::Connected(remote) => (TCP_ESTABLISHED, 0, Some(remote)),
        };
        let none = if kind.is_v6() {
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)
        } else {
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)
        };
        let (source, destination) = (local.unwrap_or(none), remote.unwrap_or(none));
        let ifname = match scope(*local).max(scope(remote)) {
            0 => None,
            index => Some(interfaces::name(index)?),
        };
        let shutdown = shutdown.map(|shutdown| match shutdown {
            Shutdown::Read => SkShutdown::Read,
            Shutdown::Write => SkShutdown::Write,
            Shutdown::Both => SkShutdown::Both,
        });
        let isk = InetSkEntry {
            id: id.as_raw(),
            ino: *inode,
            family: kind.family.cast_unsigned(),
            kind: kind.kind.cast_unsigned(),
            proto: kind.protocol.cast_unsigned(),
            state,
            src_port: source.port().into(),
            dst_port: destination.port().into(),
            flags,
            backlog,
            src_addr: words(source.ip()),
            dst_addr: words(destination.ip()),
            fown,
            opts: options.encode(),
            v6only,
            ip_opts: Some(ip),
            ifname,
            ns_id: None,
            shutdown: shutdown.map(i32::from),
            tcp_opts: kind.is_stream().then_some(tcp),
            more,
            uid: owner.map(|owner| owner.0),
            gid: owner.map(|owner| owner.1),
            memberships: memberships.iter().map(Membership::encode).collect::<Result<_>>()?,
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            isk: Some(Box::new(isk)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, _: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(isk) = entry.isk.as_deref() else {
            return Err(wrong("it has no inet_sk_entry"));
        };
        if isk.id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, isk.flags, &isk.fown)?;
        let kind = Kind {
            family: isk.family.cast_signed(),
            kind: isk.kind.cast_signed(),
            protocol: isk.proto.cast_signed(),
        };
        if ![libc::AF_INET, libc::AF_INET6].contains(&kind.family) || !is_known(kind) {
            return Err(wrong("no socket is of its family, type and protocol"));
        }
        let scope = match &isk.ifname {
            None => 0,
            Some(name) => interfaces::index(name, Self::NAME)?,
        };
        let local = from_words(kind, &isk.src_addr, isk.src_port, scope).map_err(wrong)?;
        let remote = from_words(kind, &isk.dst_addr, isk.dst_port, scope).map_err(wrong)?;
        let state = match (isk.state, remote) {
            (TCP_LISTEN, _) if kind.is_stream() && isk.backlog <= MAX_BACKLOG => {
                State::Listening { backlog: isk.backlog }
            }
            (TCP_CLOSE, _) => State::Unconnected,
            (TCP_ESTABLISHED, Some(remote)) if !kind.is_stream() => State::Connected(remote),
            _ if kind.is_stream() => {
                return Err(Error::Unsupported {
                    object: Self::NAME,
                    detail: id.to_string().into(),
                    reason: "open TCP connections are not restored yet",
                    hint: "restore it with CRIU",
                });
            }
            _ => return Err(wrong("its state is none")),
        };
        let shutdown = match isk.shutdown.map(SkShutdown::try_from) {
            None | Some(Ok(SkShutdown::None)) => None,
            Some(Ok(SkShutdown::Read)) => Some(Shutdown::Read),
            Some(Ok(SkShutdown::Write)) => Some(Shutdown::Write),
            Some(Ok(SkShutdown::Both)) => Some(Shutdown::Both),
            Some(Err(_)) => return Err(wrong("no directions are shut down like this")),
        };
        let fields = Fields {
            v6only: isk.v6only,
            ip: isk.ip_opts.clone().unwrap_or_default(),
            tcp: isk.tcp_opts.clone().unwrap_or_default(),
            more: isk.more.clone(),
        };
        let membership = |entry: &InetMembershipEntry| {
            let interface = interfaces::index(&entry.ifname, Self::NAME)?;
            Membership::decode(entry, kind, interface).map_err(wrong)
        };
        let memberships = isk.memberships.iter().map(membership).collect::<Result<_>>()?;
        Ok(Self {
            status,
            inode: isk.ino,
            owner: isk.uid.zip(isk.gid),
            kind,
            local,
            state,
            shutdown,
            options: SocketOptions::decode(&isk.opts).map_err(wrong)?,
            protocol_options: ProtocolOptions::decode(&fields, kind).map_err(wrong)?,
            memberships,
        })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let socket = make(self.kind).map_err(kernel("socket"))?;
        self.status.apply(Self::NAME, socket.as_fd())?;
        if let Some((uid, gid)) = self.owner {
            // Who may share a port depends on it.
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            fchown(&socket, Some(uid), Some(gid)).map_err(kernel("fchown"))?;
        }
        Ok(socket)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        let mut sharing: BTreeMap<(i32, u16), usize> = BTreeMap::new();
        for Created { kind: socket, .. } in files {
            if let Some(local) = socket.local {
                *sharing.entry((socket.kind.protocol, local.port())).or_default() += 1;
            }
        }
        for Created { kind: socket, file, .. } in files {
            let shares = |local: SocketAddr| sharing[&(socket.kind.protocol, local.port())] > 1;
            socket.bind(*file, socket.local.is_some_and(shares))?;
        }
        for Created { kind: socket, file, .. } in files {
            if let State::Listening { backlog } = socket.state {
                listen(file, backlog.cast_signed()).map_err(kernel("listen"))?;
            }
        }
        files.iter().try_for_each(|Created { kind: socket, file, .. }| socket.finish(*file))
    }
}

impl Inet {
    /// Sets options, and binds it to its address.
    fn bind(&self, file: BorrowedFd<'_>, shares: bool) -> Result<()> {
        self.options.apply(file)?;
        self.protocol_options.apply(file, Moment::Early)?;
        let Some(local) = self.local.filter(|_| self.takes_address()) else { return Ok(()) };
        // What is left of connections that have ended may still have the port;
        // sockets of the tree may have come to share it in other ways.
        let force = self.kind.is_stream() || shares;
        let reuse = option(libc::SO_REUSEADDR);
        let own = reuse.get(file).map_err(kernel("SO_REUSEADDR"))?;
        if force && own == 0 {
            reuse.set(file, 1).map_err(kernel("SO_REUSEADDR"))?;
        }
        bind(file, &local).map_err(Error::kernel("bind", local.to_string()))?;
        if force && own == 0 {
            reuse.set(file, 0).map_err(kernel("SO_REUSEADDR"))?;
        }
        Ok(())
    }

    /// A raw socket has its protocol in place of a port, and is bound by its
    /// address alone.
    fn takes_address(&self) -> bool {
        !self.kind.is_raw() || self.local.is_some_and(|local| !local.ip().is_unspecified())
    }

    /// Connects it, and does what is done when all is queued.
    fn finish(&self, file: BorrowedFd<'_>) -> Result<()> {
        if let State::Connected(remote) = self.state {
            connect(file, &remote).map_err(Error::kernel("connect", remote.to_string()))?;
        }
        if let Some(how) = self.shutdown.filter(|_| !matches!(self.state, State::Listening { .. }))
        {
            match shutdown(file, how) {
                // So it says of one that is not connected, and does it.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(source) => return Err(kernel("shutdown")(source)),
            }
        }
        self.memberships.iter().try_for_each(|membership| membership.join(file))?;
        self.protocol_options.apply(file, Moment::Late)?;
        self.options.finish(file)
    }
}

/// Kinds of sockets whose state is known.
fn is_known(kind: Kind) -> bool {
    match kind.kind {
        libc::SOCK_STREAM => [libc::IPPROTO_TCP, libc::IPPROTO_MPTCP].contains(&kind.protocol),
        libc::SOCK_DGRAM => {
            let echo = if kind.is_v6() { libc::IPPROTO_ICMPV6 } else { libc::IPPROTO_ICMP };
            kind.is_udp() || kind.protocol == echo
        }
        libc::SOCK_RAW => (1..256).contains(&kind.protocol),
        _ => false,
    }
}
