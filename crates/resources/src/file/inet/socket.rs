//! A socket, from probe to probe.

mod address;
mod creation;
mod state;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::inet::{InetMembershipEntry, InetSkEntry};
use dormouse_image::proto::files::socket::SkShutdown;
use dormouse_image::proto::files::{FdType, FileEntry};
use rustix::fs::{Gid, Uid, fchown};
use rustix::net::{Shutdown, getsockname};

use super::connected::{decode_connection, is_hung_up};
use super::connection::TcpState;
use super::datagrams::Datagram;
use super::ended::{Ended, REFUSED};
use super::listing::{Listing, make};
use super::memberships::Membership;
use super::options::{Fields, Kind, ProtocolOptions, TCP};
use super::reports::Reports;
use super::selection::Selection;
use super::unaccepted::{Child, decode_waiting};
use crate::Result;
use crate::corrupt::corrupt;
use crate::file::home_network::HomeNetwork;
use crate::file::interfaces;
use crate::file::sk_queues::{self, QueueSink, QueueSource};
use crate::file::socket_options::SocketOptions;
use crate::file::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, SocketFamily, Stage, Status,
};
use address::{from_words, scope, words};
use creation::{fill_contents, go_on_all};
use state::{
    MAX_BACKLOG, TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN, is_for_all, is_known, option, queue,
    state, unknown,
};

pub(super) use state::{State, address, kernel, refuse};

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
    /// What was said of datagrams that it has sent.
    reports: Reports,
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
        let mut local = address(Some(getsockname(socket).map_err(kernel("getsockname"))?));
        let state = state(cx, probe, socket, (kind, local))?;
        let alike = cx.alike(probe.id);
        let mut listing = cx.part::<Listing>();
        let mut shutdown = listed.and_then(|listed| listed.shutdown);
        let reads = !matches!(shutdown, Some(Shutdown::Read | Shutdown::Both));
        let over = matches!(state, State::Unconnected | State::Ended(_));
        if kind.protocol == TCP && over && listed.is_none() {
            // Of a connection that has ended, the kernel goes on telling the
            // address, which anybody may have by now. Kernels before 6.8 do not
            // list those that are only bound either.
            if local.is_some_and(|local| local.port() != 0) && !listing.holds_port(socket)? {
                local = None;
            }
            shutdown = is_hung_up(socket)?.then_some(Shutdown::Both);
        }
        let reports = Reports::collect(&mut listing, socket, (kind, local))?;
        let queue = match kind.is_stream() {
            true => Vec::new(),
            false => {
                let refused = matches!(state, State::Connected { refused: true, .. });
                let refused = refused || reports.is_some();
                queue(probe, socket, (kind, local), (reads, refused), &mut listing)?
            }
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
            reports: reports.unwrap_or_default(),
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
            reports,
        } = self;
        let (flags, fown) = status.encode();
        let (reports, reports_told) = reports.encode();
        let Fields { v6only, ip, tcp, more } = protocol_options.encode(*kind);
        let (error, connecting, unread) = match state {
            State::Ended(ended) => {
                let ((error, connecting), unread) = ended.encode();
                (Some(error), Some(connecting), (!unread.is_empty()).then_some(unread))
            }
            State::Connected { refused: true, .. } => (Some(REFUSED), None, None),
            _ => (None, None, None),
        };
        let unaccepted = match state {
            State::Open(connection) => connection.place,
            _ => None,
        };
        let waiting = match state {
            State::Listening { waiting, .. } => waiting.iter().map(Child::encode).collect(),
            _ => Vec::new(),
        };
        let (state, backlog, remote) = match state {
            State::Unconnected | State::Ended(_) => (TCP_CLOSE, 0, None),
            State::Listening { backlog, waiting: _ } => (TCP_LISTEN, *backlog, None),
            State::Connected { remote, .. } => (TCP_ESTABLISHED, 0, Some(*remote)),
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
            waiting,
            unread,
            reports,
            reports_told,
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
        images.part::<QueueSink>().put(id, None, packets);
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
                let port = local.map_or(0, |local| local.port());
                State::Listening {
                    backlog: isk.backlog,
                    waiting: decode_waiting((id, kind, port), &isk.waiting, images)?,
                }
            }
            (TCP_CLOSE, None) => match isk.error {
                None => State::Unconnected,
                Some(error) if kind.protocol == TCP => {
                    let connecting = isk.connecting.unwrap_or(false);
                    let unread = isk.unread.clone().unwrap_or_default();
                    State::Ended(Ended::decode((error, connecting), unread).map_err(wrong)?)
                }
                Some(_) => return Err(wrong("it cannot have an error to tell")),
            },
            (TCP_CLOSE, _) if !kind.is_stream() => State::Unconnected,
            (TCP_ESTABLISHED, Some(remote)) if !kind.is_stream() => {
                let refused = match isk.error {
                    None => false,
                    Some(REFUSED) if kind.protocol == libc::IPPROTO_UDP && local.is_some() => true,
                    Some(_) => return Err(wrong("it cannot have an error to tell")),
                };
                State::Connected { remote, refused }
            }
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
        if isk.unread.is_some() && !matches!(state, State::Ended(_)) {
            return Err(wrong("its connection has not ended, and something is left of it"));
        }
        if !isk.waiting.is_empty() && !matches!(state, State::Listening { .. }) {
            return Err(wrong("it does not listen, and others wait for it to accept them"));
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
            reports: Reports::decode((&isk.reports, isk.reports_told), (kind, local))
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
            return go_on_all(files);
        }
        fill_contents(files)
    }
}
