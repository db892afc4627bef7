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

use super::connected::{connected, decode_connection, ended, is_hung_up, refuse_unaccepted};
use super::connection::{Connection, TcpState};
use super::datagrams::{Datagram, Receiver, Unreadable, peek_all};
use super::failure::{Failure, has_something_to_tell};
use super::listing::{Listing, make};
use super::memberships::Membership;
use super::options::{Fields, Kind, Moment, ProtocolOptions, TCP};
use super::selection::Selection;
use crate::corrupt::corrupt;
use crate::file::home_network::HomeNetwork;
use crate::file::interfaces;
use crate::file::sk_queues::{self, QueueSink, QueueSource};
use crate::file::socket_options::SocketOptions;
use crate::file::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, SocketFamily, Stage, Status, TcpConnections,
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
    /// What waits to be read.
    queue: Vec<Datagram>,
    /// The index of the interface that it sends to groups of IPv4 by.
    multicast_interface: Option<u32>,
    /// Who is chosen among those that share its port.
    selection: Option<Selection>,
}

/// What it is to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing yet, or nothing any more.
    Unconnected,
    /// It was a connection of TCP, and has to tell what that ended with.
    Failed(Failure),
    /// It takes connections.
    Listening {
        /// How many may wait to be accepted.
        backlog: u32,
    },
    /// Datagrams go to this address, and come from there.
    Connected(SocketAddr),
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
const TCP_ESTABLISHED: u32 = 1;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

/// A longer backlog than any kernel allows (`somaxconn` is an int).
const MAX_BACKLOG: u32 = i32::MAX as u32;

fn option(name: i32) -> SocketOption {
    SocketOption::of_socket(name)
}

pub(super) fn kernel(call: &'static str) -> impl FnOnce(Errno) -> Error {
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

pub(super) fn refuse(probe: &Probe, reason: &'static str, hint: &'static str) -> Error {
    Error::Unsupported { object: "a socket", detail: probe.link.clone().into(), reason, hint }
}

/// An address, unless it is none at all.
pub(super) fn address(any: Option<SocketAddrAny>) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(any?).ok()?;
    (address.port() != 0 || !address.ip().is_unspecified()).then_some(address)
}

fn state(cx: &CollectCx<'_>, probe: &Probe, socket: BorrowedFd<'_>, kind: Kind) -> Result<State> {
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
        TCP_CLOSE => ended(cx, probe, (socket, kind)),
        TCP_LISTEN if waiting > 0 && !cx.options.skip_in_flight => {
            let keep = cx.options.tcp == TcpConnections::Keep && kind.protocol == TCP;
            match keep && cx.keeps_unaccepted(probe.id)? {
                true => Ok(State::Listening { backlog }),
                false => Err(refuse_unaccepted(probe)),
            }
        }
        TCP_LISTEN => Ok(State::Listening { backlog }),
        _ if kind.protocol != TCP => Err(refuse(
            probe,
            "an open MPTCP connection cannot be saved",
            "dump the program while it has none",
        )),
        state => connected(cx, probe, socket, (kind, state)),
    }
}

/// What waits to be read.
fn queue(
    probe: &Probe,
    socket: BorrowedFd<'_>,
    (kind, local): (Kind, Option<SocketAddr>),
    reads: bool,
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
    if has_something_to_tell(socket)? {
        // To look would take it out.
        return Err(refuse(
            probe,
            "it has an error to tell, which cannot be put back",
            "dump again when the program has read it",
        ));
    }
    // FIONREAD does not tell an empty datagram from none.
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).map_err(kernel("poll"))?;
    if !polled[0].revents().contains(PollFlags::IN) {
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
    const SO_MEMINFO: i32 = 55;
    const ALLOCATED: usize = 2;
    let mut info = [0; 36];
    option(SO_MEMINFO).get_into(socket, &mut info)?;
    Ok(u32::from_ne_bytes([0, 1, 2, 3].map(|byte| info[4 * ALLOCATED + byte])))
}

/// Whether an address is that of all hosts of a network: the kernel lets no
/// socket send there that has not asked for it.
fn is_for_all(local: SocketAddr) -> bool {
    let family = if local.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let probe = make(Kind { family, kind: libc::SOCK_DGRAM, protocol: 0 });
    probe.and_then(|probe| connect(probe, &local)) == Err(Errno::ACCESS)
}

/// Has a socket of IPv4 send to groups by an interface, from the address that
/// was set before.
fn send_to_groups_by(socket: BorrowedFd<'_>, index: u32) -> Result<(), Errno> {
    let option = SocketOption::new(libc::IPPROTO_IP, libc::IP_MULTICAST_IF);
    // struct ip_mreqn: group, address, interface. The kernel tells the address.
    let mut request = [[0; 4], [0; 4], index.to_ne_bytes()];
    option.get_into(socket, &mut request[1])?;
    option.set_bytes(socket, request.as_flattened())
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
    const RANKS: &'static [FillRank] = &[FillRank::Contents, FillRank::Arm];

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
            let (reason, hint) = unknown(kind);
            return Err(refuse(probe, reason, hint));
        }
        cx.part::<HomeNetwork>().check(socket, probe)?;
        // The kernel's numbers of socket inodes have 32 bits (get_next_ino).
        let inode = probe.stat.st_ino as u32;
        let listed = cx.part::<Listing>().of(kind, inode)?;
        if listed.is_some_and(|listed| listed.signed) {
            return Err(refuse(
                probe,
                "its segments are signed (TCP_MD5SIG), and the key cannot be read",
                "dump the program while it has no such socket open",
            ));
        }
        let state = state(cx, probe, socket, kind)?;
        let alike = cx.alike(probe.id);
        let mut listing = cx.part::<Listing>();
        let mut shutdown = listed.and_then(|listed| listed.shutdown);
        let reads = !matches!(shutdown, Some(Shutdown::Read | Shutdown::Both));
        let mut local = address(Some(getsockname(socket).map_err(kernel("getsockname"))?));
        let over = matches!(state, State::Unconnected | State::Failed(_));
        if kind.protocol == TCP && over && listed.is_none() {
            // Of a connection that has ended, the kernel goes on telling the
            // address, which anybody may have by now. Kernels before 6.8 do not
            // list those that are only bound either.
            if local.is_some_and(|local| local.port() != 0) && !listing.holds_port(socket)? {
                local = None;
            }
            shutdown = is_hung_up(socket)?.then_some(Shutdown::Both);
        }
        let queue = match kind.is_stream() {
            true => Vec::new(),
            false => queue(probe, socket, (kind, local), reads, &mut listing)?,
        };
        if !queue.is_empty() && local.is_some_and(is_for_all) {
            return Err(refuse(
                probe,
                "datagrams to all of a network wait to be read, and would go to all again",
                "dump again when the program has read them",
            ));
        }
        // Sockets of IPv6 tell theirs, and streams have no use for one.
        let multicast_interface = match kind.is_v6() || kind.is_stream() {
            true => None,
            false => listing.multicast_interface(probe.id, cx.probes)?,
        };
        let is_open = matches!(state, State::Open(_) | State::Lost { .. });
        let (known, model) = listing.options((socket, kind), alike.as_ref())?;
        let protocol_options = ProtocolOptions::read(&known, model, (kind, is_open))?;
        let options = SocketOptions::collect(&known)?;
        Ok(Self {
            status,
            inode,
            owner: Some((probe.stat.st_uid, probe.stat.st_gid)),
            kind,
            local,
            state,
            shutdown,
            options,
            protocol_options,
            memberships: listing.groups.of(socket, kind)?,
            queue,
            multicast_interface,
            selection: Selection::collect(probe, socket, &mut listing)?,
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
            queue,
            multicast_interface,
            selection,
        } = self;
        let (flags, fown) = status.encode();
        let Fields { v6only, ip, tcp, more } = protocol_options.encode(*kind);
        let (error, connecting) = match state {
            State::Failed(failure) => Some(failure.encode()).unzip(),
            _ => (None, None),
        };
        let unaccepted = match state {
            State::Open(connection) => connection.place,
            _ => None,
        };
        let (state, backlog, remote) = match state {
            State::Unconnected | State::Failed(_) => (TCP_CLOSE, 0, None),
            State::Listening { backlog } => (TCP_LISTEN, *backlog, None),
            State::Connected(remote) => (TCP_ESTABLISHED, 0, Some(*remote)),
            State::Open(connection) => {
                connection.encode(*inode, images)?;
                (connection.state as u32, 0, Some(connection.remote))
            }
            State::Lost { state, remote } => (*state as u32, 0, Some(*remote)),
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
        let (reuseport_place, reuseport_filter) = selection.as_ref().map(Selection::encode).unzip();
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
            multicast_if: multicast_interface.map(interfaces::name).transpose()?,
            reuseport_place,
            reuseport_filter: reuseport_filter.unwrap_or_default(),
            error,
            connecting,
            unaccepted,
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            isk: Some(Box::new(isk)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        let packets: Vec<_> =
            queue.iter().map(|datagram| datagram.encode(id)).collect::<Result<_>>()?;
        images.part::<QueueSink>().put(id, packets);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
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
        let mut state = match (isk.state, remote) {
            (TCP_LISTEN, _) if kind.is_stream() && isk.backlog <= MAX_BACKLOG => {
                State::Listening { backlog: isk.backlog }
            }
            (TCP_CLOSE, None) => match isk.error {
                None => State::Unconnected,
                Some(error) if kind.protocol == TCP => {
                    let connecting = isk.connecting.unwrap_or(false);
                    State::Failed(Failure::decode(error, connecting).map_err(wrong)?)
                }
                Some(_) => return Err(wrong("it cannot have an error to tell")),
            },
            (TCP_CLOSE, _) if !kind.is_stream() => State::Unconnected,
            (TCP_ESTABLISHED, Some(remote)) if !kind.is_stream() => State::Connected(remote),
            (state, Some(remote)) if kind.is_stream() && local.is_some() => {
                let state = TcpState::from_raw(state).ok_or_else(|| wrong("its state is none"))?;
                decode_connection((id, isk.ino), (state, remote), images)?
            }
            _ => return Err(wrong("its state is none")),
        };
        match (isk.unaccepted, &mut state) {
            (None, _) | (_, State::Lost { .. }) => {}
            (place, State::Open(connection)) if connection.state == TcpState::SynSent => {
                connection.place = place;
            }
            _ => return Err(wrong("nobody can wait for it to be accepted")),
        }
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
        let multicast_interface = isk.multicast_if.as_ref();
        let multicast_interface =
            multicast_interface.map(|name| interfaces::index(name, Self::NAME)).transpose()?;
        let mut queue = Vec::new();
        for (packet, bytes) in images.part::<QueueSource>()?.take(id) {
            let wrong = |reason| sk_queues::wrong(&packet, reason);
            let known = packet.datagram.as_ref().filter(|_| kind.is_udp() && local.is_some());
            let datagram = known.ok_or_else(|| wrong("its socket can have none"))?;
            let interface = datagram.ifname.as_ref();
            let interface =
                interface.map(|name| interfaces::index(name, Self::NAME)).transpose()?;
            queue.push(Datagram::decode(datagram, bytes, kind, interface).map_err(wrong)?);
        }
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
            queue,
            multicast_interface,
            selection: Selection::decode(isk.reuseport_place, &isk.reuseport_filter)
                .map_err(wrong)?,
        })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
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

    fn fill(rank: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        if rank == FillRank::Arm {
            return files.iter().try_for_each(|Created { kind, file, .. }| kind.go_on(*file));
        }
        // A program that chooses among them knows them by their order.
        let mut files: Vec<_> = files.iter().collect();
        files.sort_by_key(|socket| socket.kind.selection.as_ref().map(|chosen| chosen.place));
        let (mut sharing, mut listening, mut crowds) = (Ports::new(), Ports::new(), Ports::new());
        for Created { kind: socket, .. } in &files {
            if let Some(port) = socket.port() {
                let listens = matches!(socket.state, State::Listening { .. });
                *sharing.entry(port).or_default() += usize::from(!socket.was_connected());
                *listening.entry(port).or_default() += usize::from(listens);
                *crowds.entry(port).or_default() += usize::from(socket.is_early());
            }
        }
        let several = |ports: &Ports, socket: &Self| socket.port().is_some_and(|at| ports[&at] > 1);
        // As long as nobody else has the port, datagrams come to those they are
        // for.
        let (first, others): (Vec<_>, Vec<_>) =
            files.iter().copied().partition(|socket| socket.kind.is_early());
        for Created { kind: socket, file, .. } in first.into_iter().chain(others) {
            socket.options.apply(*file)?;
            if several(&sharing, socket) {
                share(*file, several(&listening, socket))?;
            }
            socket.bind(*file)?;
            socket.receive(*file, several(&crowds, socket))?;
        }
        for Created { kind: socket, file, .. } in &files {
            if let State::Listening { backlog } = socket.state {
                listen(file, backlog.cast_signed()).map_err(kernel("listen"))?;
            }
        }
        for Created { kind: socket, file, .. } in &files {
            if several(&sharing, socket) {
                socket.share_no_more(*file)?;
            }
            socket.open(*file)?;
        }
        // They are accepted in the order in which they come.
        files.sort_by_key(|socket| socket.kind.place());
        for Created { kind: socket, file, .. } in &files {
            socket.call(*file)?;
        }
        files.iter().try_for_each(|Created { kind: socket, file, .. }| socket.finish(*file))
    }
}

/// How many sockets have a port of a protocol.
type Ports = BTreeMap<(i32, u16), usize>;

impl Inet {
    fn port(&self) -> Option<(i32, u16)> {
        self.local.map(|local| (self.kind.protocol, local.port()))
    }

    /// Whether it is bound before others.
    fn is_early(&self) -> bool {
        !self.queue.is_empty() || self.selection.is_some()
    }

    /// Has it share its port on the terms that its program has set.
    fn share_no_more(&self, file: BorrowedFd<'_>) -> Result<()> {
        for (name, own) in [
            (libc::SO_REUSEADDR, self.options.reuses_address()),
            (libc::SO_REUSEPORT, self.options.reuses_port()),
        ] {
            if !own {
                option(name).set(file, 0).map_err(kernel("SO_REUSEADDR"))?;
            }
        }
        Ok(())
    }

    /// Binds it to its address, and has it join groups.
    fn bind(&self, file: BorrowedFd<'_>) -> Result<()> {
        self.protocol_options.apply(file, Moment::Early)?;
        if let Some(index) = self.multicast_interface {
            send_to_groups_by(file, index).map_err(kernel("IP_MULTICAST_IF"))?;
        }
        if let Some(local) = self.local.filter(|_| self.takes_address() && !self.was_connected()) {
            // What is left of connections that have ended may still have the
            // port.
            let reuse = self.kind.is_stream().then(|| option(libc::SO_REUSEADDR));
            let bound = with(reuse, file, || bind(file, &local));
            let bound = bound.or_else(|error| match error {
                // It was bound while it was free to be bound to any address,
                // or the machine had this one.
                Errno::ADDRNOTAVAIL => {
                    let level =
                        if self.kind.is_v6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
                    let name =
                        if self.kind.is_v6() { libc::IPV6_FREEBIND } else { libc::IP_FREEBIND };
                    let free = SocketOption { level, name };
                    with(Some(free), file, || with(reuse, file, || bind(file, &local)))
                }
                error => Err(error),
            });
            bound.map_err(Error::kernel("bind", local.to_string()))?;
        }
        self.memberships.iter().try_for_each(|membership| membership.join(file))
    }

    /// Puts back what was in its queue.
    fn receive(&self, file: BorrowedFd<'_>, is_crowded: bool) -> Result<()> {
        let Some(local) = self.local.filter(|_| !self.queue.is_empty()) else { return Ok(()) };
        self.options.widen(file)?;
        let device = self.options.device.as_deref();
        let receiver = Receiver { file, kind: self.kind, local, device, is_crowded };
        self.queue.iter().try_for_each(|datagram| receiver.deliver(datagram))
    }

    /// A raw socket has its protocol in place of a port, and is bound by its
    /// address alone.
    fn takes_address(&self) -> bool {
        !self.kind.is_raw() || self.local.is_some_and(|local| !local.ip().is_unspecified())
    }

    /// Whether it is, or was, a connection of TCP.
    fn was_connected(&self) -> bool {
        matches!(self.state, State::Open(_) | State::Lost { .. })
    }

    /// If it is an open connection, its `SO_REUSEADDR`.
    pub(in crate::file) fn as_connection(&self) -> Option<bool> {
        matches!(self.state, State::Open(_)).then(|| self.options.reuses_address())
    }

    /// Opens its connection, or has that end.
    fn open(&self, file: BorrowedFd<'_>) -> Result<()> {
        if let State::Failed(failure) = self.state {
            return failure.bring_about(file, (self.kind, self.local));
        }
        let (State::Open(connection), Some(local)) = (&self.state, self.local) else {
            return Ok(());
        };
        if connection.place.is_some() {
            return Ok(());
        }
        connection.open(file, local)?;
        self.options.widen(file)?;
        connection.fill(file)
    }

    /// Its place among those that wait to be accepted.
    fn place(&self) -> Option<u32> {
        match &self.state {
            State::Open(connection) => connection.place,
            _ => None,
        }
    }

    /// Connects it, if its other end waits to be accepted.
    fn call(&self, file: BorrowedFd<'_>) -> Result<()> {
        match (&self.state, self.local) {
            (State::Open(connection), Some(local)) if connection.place.is_some() => {
                connection.call(file, local)
            }
            _ => Ok(()),
        }
    }

    /// Has a connection go on, as far as that can be done under repair.
    fn go_on(&self, file: BorrowedFd<'_>) -> Result<()> {
        let State::Open(connection) = &self.state else { return Ok(()) };
        self.protocol_options.apply(file, Moment::Late)?;
        connection.go_on(file, || self.options.widen(file))?;
        self.options.finish(file)?;
        connection.await_room(file)
    }

    /// Connects it, and does what is done when all is queued.
    fn finish(&self, file: BorrowedFd<'_>) -> Result<()> {
        match (&self.state, self.local) {
            (State::Connected(remote), _) => {
                connect(file, remote).map_err(Error::kernel("connect", remote.to_string()))?;
            }
            (State::Open(connection), Some(local)) => {
                connection.finish(file, local)?;
                // Before anybody watches it.
                self.options.narrow(file)?;
            }
            (State::Lost { .. }, _) => shut(file, Shutdown::Both)?,
            _ => {}
        }
        let by_itself = matches!(self.state, State::Listening { .. } | State::Failed(_));
        if let Some(how) = self.shutdown.filter(|_| !by_itself) {
            shut(file, how)?;
        }
        if matches!(self.state, State::Open(_)) {
            return Ok(());
        }
        self.protocol_options.apply(file, Moment::Late)?;
        if let Some(selection) = &self.selection {
            selection.apply(file)?;
        }
        self.options.finish(file)
    }
}

/// Has a socket share its port with others of the tree, which may have come to
/// that in any way; all that listen at once, if `port`.
fn share(file: BorrowedFd<'_>, port: bool) -> Result<()> {
    option(libc::SO_REUSEADDR).set(file, 1).map_err(kernel("SO_REUSEADDR"))?;
    if port {
        option(libc::SO_REUSEPORT).set(file, 1).map_err(kernel("SO_REUSEPORT"))?;
    }
    Ok(())
}

fn shut(file: BorrowedFd<'_>, how: Shutdown) -> Result<()> {
    match shutdown(file, how) {
        // So it says of one that is not connected, and does it.
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(source) => Err(kernel("shutdown")(source)),
    }
}

/// Does what a socket can do only with an option set, which it need not have of
/// its own.
fn with(
    option: Option<SocketOption>,
    file: BorrowedFd<'_>,
    does: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let Some(option) = option else { return does() };
    let own = option.get(file)?;
    if own != 0 {
        return does();
    }
    option.set(file, 1)?;
    let done = does();
    option.set(file, 0)?;
    done
}

/// Why others are refused, and what can be done.
fn unknown(kind: Kind) -> (&'static str, &'static str) {
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
fn is_known(kind: Kind) -> bool {
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
