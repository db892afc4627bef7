//! What a socket is, whatever its open file description: collected, encoded and
//! decoded.

use std::os::fd::BorrowedFd;

use dormouse_image::proto::files::socket::SkShutdown;
use dormouse_image::proto::files::unix::{UnixCredEntry, UnixSkEntry, UnixStateEntry};
use dormouse_kernel::socket::SocketOption;
use dormouse_kernel::{Errno, NsPid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;

use super::Unix;
use super::address::{Address, judge_name};
use super::connection::{Connection, unsupported};
use super::queue::{Packet, Queue};
use super::survey::UnixSurvey;
use super::waiting::Waiting;
use crate::file::socket_options::{Options, SocketOptions};
use crate::file::stand_in::Identity;
use crate::file::{CollectCx, FileId, FileKind, Holder, Probe};
use crate::{Error, Result};

/// A socket.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) kind: Kind,
    pub(super) inode: u32,
    pub(super) connection: Connection,
    pub(super) address: Option<Address>,
    /// How many may wait to be accepted.
    pub(super) backlog: u32,
    pub(super) shutdown: Option<Shutdown>,
    pub(super) options: SocketOptions,
    /// `SO_PEERCRED`.
    pub(super) peer: Option<Identity>,
    /// Who connects it, if it waits to be accepted.
    pub(super) connector: Option<Identity>,
    pub(super) peek_offset: Option<i32>,
    /// `ECONNRESET` is yet to be told.
    pub(super) reset: bool,
    pub(super) queue: Queue,
}

/// `SOCK_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Stream,
    Datagram,
    SeqPacket,
}

impl Kind {
    pub(super) fn as_raw(self) -> i32 {
        match self {
            Self::Stream => libc::SOCK_STREAM,
            Self::Datagram => libc::SOCK_DGRAM,
            Self::SeqPacket => libc::SOCK_SEQPACKET,
        }
    }

    pub(super) fn from_raw(raw: i32) -> Option<Self> {
        [Self::Stream, Self::Datagram, Self::SeqPacket]
            .into_iter()
            .find(|kind| kind.as_raw() == raw)
    }

    /// Whether both sides of a connection know of it.
    pub(super) fn is_mutual(self) -> bool {
        self != Self::Datagram
    }
}

pub(super) const ESTABLISHED: u32 = 1;
pub(super) const CLOSE: u32 = 7;
pub(super) const LISTEN: u32 = 10;

/// The network namespace, as the ids of tasks have it.
pub(super) const NET_NS: u32 = 2;

impl Spec {
    pub(super) fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let socket = &probe.duplicate_later();
        let (listed, queue) = {
            let mut survey = cx.part::<UnixSurvey>();
            (survey.socket(probe)?.clone(), survey.take_queue(probe, cx.probes)?)
        };
        let connection = Connection::collect(cx, probe, (socket, &listed))?;
        let connector = match connection {
            Connection::Waiting(_) | Connection::Outside(_) => holder(cx, probe)?,
            _ => None,
        };
        let unknown = || unsupported(probe, "its type is unknown here", "do without it");
        let kind = Kind::from_raw(listed.kind).ok_or_else(unknown)?;
        let mut survey = cx.part::<UnixSurvey>();
        let (options, peek_offset) = {
            let known = survey.options((probe.id, kind), socket)?;
            let mut offset = [0; 4];
            (&known)
                .get_into(SocketOption::of_socket(libc::SO_PEEK_OFF), &mut offset)
                .map_err(Error::kernel("SO_PEEK_OFF", &probe.link))?;
            (SocketOptions::collect(&known)?, i32::from_ne_bytes(offset))
        };
        let reset = !survey.is_sound(probe.id) && has_error(socket.get()?)?;
        let peer_is_nameless = match connection {
            Connection::Peer(inode) => survey.other(inode).is_some_and(|peer| peer.name.is_empty()),
            _ => false,
        };
        if reset && kind == Kind::Datagram && (listed.name.is_empty() || peer_is_nameless) {
            return Err(unsupported(
                probe,
                "it has an error to tell, and it or its peer has no name",
                "checkpoint the program when it has read the error",
            ));
        }
        Ok(Self {
            kind,
            inode: listed.inode,
            connection,
            address: Address::collect(socket, &listed)?,
            backlog: listed.sent,
            shutdown: listed.shutdown,
            options,
            peer: survey.peer(probe.id, || peer(socket.get()?))?,
            connector,
            peek_offset: (peek_offset >= 0).then_some(peek_offset),
            reset,
            queue,
        })
    }

    /// The entry, but for what the open file description has.
    pub(super) fn encode(&self) -> UnixSkEntry {
        let Self {
            kind,
            inode,
            connection,
            address,
            backlog,
            shutdown,
            options,
            peer,
            connector,
            peek_offset,
            reset,
            queue,
        } = self;
        let mut state = UnixStateEntry {
            peer_cred: peer.as_ref().map(encode_identity),
            connector: connector.as_ref().map(encode_identity),
            peek_off: *peek_offset,
            reset: reset.then_some(true),
            told: queue.told.iter().map(|file| file.as_raw()).collect(),
            ..UnixStateEntry::default()
        };
        let (number, peer) = match connection {
            Connection::None => (CLOSE, 0),
            Connection::Peer(inode) | Connection::Waiting(inode) => (ESTABLISHED, *inode),
            Connection::Outside(outside) => (ESTABLISHED, outside.inode),
            Connection::Closed(name) => {
                state.closed_peer = Some(name.clone());
                (ESTABLISHED, 0)
            }
            Connection::Listening(waiting) => {
                Waiting::encode_all(waiting, &mut state);
                (LISTEN, 0)
            }
        };
        let shutdown = match shutdown {
            None => None,
            Some(Shutdown::Read) => Some(SkShutdown::Read),
            Some(Shutdown::Write) => Some(SkShutdown::Write),
            Some(Shutdown::Both) => Some(SkShutdown::Both),
        };
        let mut entry = UnixSkEntry {
            ino: *inode,
            kind: kind.as_raw().cast_unsigned(),
            state: number,
            backlog: *backlog,
            peer,
            opts: options.encode(),
            shutdown: shutdown.map(Into::into),
            ns_id: Some(NET_NS),
            ..UnixSkEntry::default()
        };
        if let Some(address) = address {
            address.encode(&mut entry, &mut state);
        }
        entry.dormouse = Some(state);
        entry
    }

    /// Who waits to be accepted, if it listens.
    pub(super) fn waiting(&self) -> &[Waiting] {
        match &self.connection {
            Connection::Listening(waiting) => waiting,
            _ => &[],
        }
    }

    /// Descriptors in flight to it, and to those who wait to be accepted by it.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = FileId> {
        let sent = self.waiting().iter().flat_map(|waiting| &waiting.sent);
        let packets = self.queue.packets.iter().chain(sent);
        packets.flat_map(|packet| &packet.rights).copied()
    }

    pub(super) fn decode(entry: &UnixSkEntry, packets: Vec<Packet>) -> Result<Self, &'static str> {
        let kind = i32::try_from(entry.kind).ok().and_then(Kind::from_raw);
        let kind = kind.ok_or("its type is none")?;
        if entry.uflags != 0 {
            return Err("a plugin looks after it");
        }
        let state = entry.dormouse.clone().unwrap_or_default();
        let told = state.told.iter().map(|&file| FileId::from_raw(file)).collect();
        let queue = Queue { packets, told };
        queue.check(kind)?;
        let connection = match (entry.state, entry.peer, state.closed_peer.clone()) {
            (LISTEN, 0, None) if kind.is_mutual() => {
                Connection::Listening(Waiting::decode_all(&state, kind)?)
            }
            (ESTABLISHED | CLOSE, 0, Some(name)) => {
                judge_name(&name)?;
                Connection::Closed(name)
            }
            // CRIU's word for it.
            (ESTABLISHED, 0, None) if kind.is_mutual() => Connection::Closed(Vec::new()),
            (ESTABLISHED | CLOSE, 0, None) => Connection::None,
            (ESTABLISHED | CLOSE, peer, None) if peer != 0 => Connection::Peer(peer),
            _ => return Err("its state is none"),
        };
        let shutdown = match entry.shutdown.map(SkShutdown::try_from) {
            None | Some(Ok(SkShutdown::None)) => None,
            Some(Ok(SkShutdown::Read)) => Some(Shutdown::Read),
            Some(Ok(SkShutdown::Write)) => Some(Shutdown::Write),
            Some(Ok(SkShutdown::Both)) => Some(Shutdown::Both),
            Some(Err(_)) => return Err("its shutdown is none"),
        };
        if state.peek_off.is_some_and(|offset| offset < 0) {
            return Err("it peeks before its beginning");
        }
        let address = Address::decode(entry, &state)?;
        if matches!(connection, Connection::Listening(_)) && address.is_none() {
            return Err("it listens without an address");
        }
        Ok(Self {
            kind,
            inode: entry.ino,
            connection,
            address,
            backlog: entry.backlog,
            shutdown,
            options: SocketOptions::decode(&entry.opts)?,
            peer: state.peer_cred.as_ref().map(decode_identity).transpose()?,
            connector: state.connector.as_ref().map(decode_identity).transpose()?,
            peek_offset: state.peek_off,
            reset: state.reset.unwrap_or(false),
            queue,
        })
    }
}

pub(super) fn encode_identity(identity: &Identity) -> UnixCredEntry {
    let Identity { pid, uid, gid, groups } = identity.clone();
    UnixCredEntry { pid: pid.as_raw(), uid, gid, groups }
}

pub(super) fn decode_identity(entry: &UnixCredEntry) -> Result<Identity, &'static str> {
    let UnixCredEntry { pid, uid, gid, groups } = entry.clone();
    let pid = NsPid::from_raw(pid).ok_or("the pid of its peer is none")?;
    if groups.len() > MAX_GROUPS {
        return Err("its peer has too many groups");
    }
    Ok(Identity { pid, uid, gid, groups })
}

/// `NGROUPS_MAX`.
const MAX_GROUPS: usize = 65536;

/// Who is, or was, on the other side.
fn peer(socket: BorrowedFd<'_>) -> Result<Option<Identity>> {
    let failed = |call| Error::kernel(call, Unix::NAME);
    let mut value = [0; 12];
    SocketOption::of_socket(libc::SO_PEERCRED)
        .get_into(socket, &mut value)
        .map_err(failed("SO_PEERCRED"))?;
    let [pid, uid, gid] =
        [0, 4, 8].map(|at| u32::from_ne_bytes([0, 1, 2, 3].map(|i| value[at + i])));
    let Some(pid) = NsPid::from_raw(pid.cast_signed()) else { return Ok(None) };
    let mut bytes = vec![0; 32 * 4];
    let option = SocketOption::of_socket(libc::SO_PEERGROUPS);
    let len = match option.get_into(socket, &mut bytes) {
        Err(Errno::RANGE) => {
            bytes.resize(MAX_GROUPS * 4, 0);
            option.get_into(socket, &mut bytes)
        }
        Err(Errno::NODATA) => Ok(0),
        read => read,
    };
    bytes.truncate(len.map_err(failed("SO_PEERGROUPS"))?);
    let groups = bytes.as_chunks().0.iter().map(|&group| u32::from_ne_bytes(group)).collect();
    Ok(Some(Identity { pid, uid, gid, groups }))
}

/// Whoever has the socket, as the kernel would note him.
fn holder(cx: &CollectCx<'_>, probe: &Probe) -> Result<Option<Identity>> {
    let (Holder::Fd { task, .. } | Holder::Flight { task, .. }) = probe.holder else {
        return Ok(None);
    };
    let status = dormouse_kernel::proc::ProcDir::open(task)?.status()?;
    let Some(pid) = cx.ns_pid(status.tgid) else { return Ok(None) };
    let (uid, gid) = (status.uid.effective, status.gid.effective);
    Ok(Some(Identity { pid, uid, gid, groups: status.groups }))
}

/// Whether the socket has an error to tell: of the kinds there are, only
/// `ECONNRESET` stays until it is asked for.
fn has_error(socket: BorrowedFd<'_>) -> Result<bool> {
    let mut ready = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut ready, Some(&now)).map_err(Error::kernel("poll", Unix::NAME))?;
    Ok(ready[0].revents().contains(PollFlags::ERR))
}
