//! One socket.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use dormouse_image::proto::files::socket::SkShutdown;
use dormouse_image::proto::files::unix::{UnixCredEntry, UnixSkEntry, UnixStateEntry};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_image::store::NewPart;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::sock_diag::{UnixDiag, UnixPeer};
use dormouse_kernel::socket::{SocketOption, UnixAddress, peer_name};
use dormouse_kernel::{Errno, NsPid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;

use super::address::Address;
use super::queue::{Packet, Queue};
use super::set::Set;
use super::survey::UnixSurvey;
use crate::corrupt::corrupt;
use crate::file::sink::SinkPart;
use crate::file::sk_queues::{self, QueueSink, QueueSource};
use crate::file::socket_options::SocketOptions;
use crate::file::source::SourcePart;
use crate::file::stand_in::Identity;
use crate::file::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, Holder, ImageSink,
    ImageSource, Inode, Probe, SocketFamily, Stage, Status, UnixPeers, Use,
};
use crate::{Error, Result};

/// A unix socket.
#[derive(Debug)]
pub struct Unix {
    status: Status,
    spec: Rc<Spec>,
    /// At the restore, all of them.
    set: Option<Rc<Set>>,
}

/// What a socket is, whatever its open file description.
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

    fn from_raw(raw: i32) -> Option<Self> {
        [Self::Stream, Self::Datagram, Self::SeqPacket]
            .into_iter()
            .find(|kind| kind.as_raw() == raw)
    }

    /// Whether both sides of a connection know of it.
    pub(super) fn is_mutual(self) -> bool {
        self != Self::Datagram
    }
}

/// Whom a socket is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    None,
    /// The socket with this inode.
    Peer(u32),
    /// One that has closed, and had this address.
    Closed(Vec<u8>),
    /// Nobody yet: the socket with this inode listens.
    Waiting(u32),
    /// One that is not part of the checkpoint.
    Outside(Outside),
    /// It listens; these wait to be accepted, by their inodes.
    Listening(Vec<u32>),
}

/// A socket that is not part of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outside {
    /// The number of its entry in the images.
    id: FileId,
    inode: u32,
    kind: Kind,
    /// Where to find another like it.
    pub(super) name: Vec<u8>,
}

/// CRIU's mark for an entry that stands for such a socket (`USK_EXTERN`).
const EXTERN: u32 = 1;

impl Outside {
    fn encode(&self) -> FileEntry {
        let Self { id, inode, kind, name } = self;
        let id = id.as_raw();
        let usk = UnixSkEntry {
            id,
            ino: *inode,
            kind: kind.as_raw().cast_unsigned(),
            state: LISTEN,
            uflags: EXTERN,
            name: name.clone(),
            ns_id: Some(NET_NS),
            ..UnixSkEntry::default()
        };
        let kind = Unix::TYPE.into();
        FileEntry { kind, id, usk: Some(Box::new(usk)), ..FileEntry::default() }
    }

    fn decode(id: FileId, entry: &UnixSkEntry) -> Result<Self, &'static str> {
        let kind = i32::try_from(entry.kind).ok().and_then(Kind::from_raw);
        let name = entry.name.clone();
        if name.is_empty() || UnixAddress::new(&name).is_none() {
            return Err("it is outside, and has no address");
        }
        let kind = kind.ok_or("its type is none")?;
        Ok(Self { id, inode: entry.ino, kind, name })
    }
}

const ESTABLISHED: u32 = 1;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;

/// The network namespace, as the ids of tasks have it.
const NET_NS: u32 = 2;

fn unsupported(probe: &Probe, reason: &'static str, hint: &'static str) -> Error {
    Error::Unsupported { object: "a unix socket", detail: probe.link.clone().into(), reason, hint }
}

impl Connection {
    fn collect(
        cx: &CollectCx<'_>,
        probe: &Probe,
        (socket, listed): (BorrowedFd<'_>, &UnixDiag),
    ) -> Result<Self> {
        let mut survey = cx.part::<UnixSurvey>();
        survey.count_ours(cx.probes.values());
        if u32::from(listed.state) == LISTEN {
            if listed.waiting.contains(&0) {
                return Err(unsupported(
                    probe,
                    "a connection was closed again before it was accepted, and what came by it \
                     cannot be read",
                    "checkpoint the program when it has accepted it",
                ));
            }
            if !listed.waiting.iter().all(|&inode| survey.is_ours(inode)) {
                return Err(unsupported(
                    probe,
                    "a process that is not part of the checkpoint waits to be accepted there",
                    "checkpoint the program when it has accepted the connection",
                ));
            }
            return Ok(Self::Listening(listed.waiting.clone()));
        }
        match listed.peer {
            UnixPeer::None => Ok(Self::None),
            UnixPeer::Socket(inode) if survey.is_ours(inode) => Ok(Self::Peer(inode)),
            UnixPeer::Socket(inode) => {
                Self::elsewhere(cx, probe, (socket, listed), survey.other(inode))
            }
            UnixPeer::Hidden => match survey.waits_for(listed.inode) {
                None => Self::closed(probe, socket),
                Some(listener) if !survey.is_ours(listener) => {
                    Self::elsewhere(cx, probe, (socket, listed), survey.other(listener))
                }
                Some(_) if listed.sent > 0 => Err(unsupported(
                    probe,
                    "it has sent something before it was accepted, which cannot be read",
                    "checkpoint the program when the connection is accepted",
                )),
                Some(listener) => Ok(Self::Waiting(listener)),
            },
        }
    }
}

impl Connection {
    /// To one that has closed.
    fn closed(probe: &Probe, socket: BorrowedFd<'_>) -> Result<Self> {
        match peer_name(socket) {
            Ok(name) => Ok(Self::Closed(name)),
            // What it was connected to is gone for good.
            Err(Errno::NOTCONN) => Ok(Self::Closed(Vec::new())),
            Err(error) => Err(Error::kernel("getpeername", &probe.link)(error)),
        }
    }

    /// To one that is not of the tree: as the user has chosen.
    fn elsewhere(
        cx: &CollectCx<'_>,
        probe: &Probe,
        (socket, listed): (BorrowedFd<'_>, &UnixDiag),
        peer: Option<&UnixDiag>,
    ) -> Result<Self> {
        let refused = || outside(probe, peer);
        let kind = Kind::from_raw(listed.kind).ok_or_else(refused)?;
        match cx.options.unix_peers {
            UnixPeers::Close => return Self::closed(probe, socket),
            UnixPeers::Reconnect => {}
            UnixPeers::Datagrams if kind == Kind::Datagram => {}
            UnixPeers::Datagrams | UnixPeers::Refuse => return Err(refused()),
        }
        // A relative name means nothing without the directory it was given in.
        let peer = peer.filter(|peer| matches!(peer.name.first(), Some(0 | b'/')));
        let Some(peer) = peer else { return Err(refused()) };
        if kind.is_mutual() && listed.received > 0 {
            return Err(unsupported(
                probe,
                "it has yet to read what a peer outside of the checkpoint has sent",
                "checkpoint the program when it has read that, or with --unix-peer=close",
            ));
        }
        let (id, name) = (cx.fresh_id(), peer.name.clone());
        Ok(Self::Outside(Outside { id, inode: peer.inode, kind, name }))
    }
}

/// The error for a peer that is not of the tree.
fn outside(probe: &Probe, peer: Option<&UnixDiag>) -> Error {
    let name = peer.map(|peer| peer.name.as_slice()).unwrap_or_default();
    let mut detail = probe.link.clone().into_os_string();
    if !name.is_empty() {
        let shown: Vec<u8> = name.iter().map(|&byte| if byte == 0 { b'@' } else { byte }).collect();
        let shown = if name[0] == 0 { &shown[..] } else { &shown[..name.len() - 1] };
        detail.push(" connected to ");
        detail.push(OsStr::from_bytes(shown));
    }
    Error::Unsupported {
        object: "a unix socket",
        detail,
        reason: "its peer belongs to a process that is not part of the checkpoint",
        hint: "see --unix-peer, or checkpoint the tree that the other process belongs to as well",
    }
}

/// `SO_PEERGROUPS`, include/uapi/asm-generic/socket.h.
const SO_PEERGROUPS: i32 = 59;
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
    let option = SocketOption::of_socket(SO_PEERGROUPS);
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

impl Spec {
    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let file = probe.duplicate()?;
        let socket = file.as_fd();
        let (listed, queue) = {
            let mut survey = cx.part::<UnixSurvey>();
            (survey.socket(probe)?.clone(), survey.take_queue(probe)?)
        };
        let connection = Connection::collect(cx, probe, (socket, &listed))?;
        let connector = match connection {
            Connection::Waiting(_) | Connection::Outside(_) => holder(cx, probe)?,
            _ => None,
        };
        let peek_offset = SocketOption::of_socket(libc::SO_PEEK_OFF);
        let peek_offset =
            peek_offset.get(socket).map_err(Error::kernel("SO_PEEK_OFF", &probe.link))?;
        let unknown = || unsupported(probe, "its type is unknown here", "do without it");
        Ok(Self {
            kind: Kind::from_raw(listed.kind).ok_or_else(unknown)?,
            inode: listed.inode,
            connection,
            address: Address::collect(socket, &listed)?,
            backlog: listed.sent,
            shutdown: listed.shutdown,
            options: SocketOptions::collect(socket)?,
            peer: peer(socket)?,
            connector,
            peek_offset: (peek_offset >= 0).then_some(peek_offset),
            reset: has_error(socket)?,
            queue,
        })
    }

    /// The entry, but for what the open file description has.
    fn encode(&self) -> UnixSkEntry {
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
            queue: _,
        } = self;
        let mut state = UnixStateEntry {
            peer_cred: peer.as_ref().map(encode_identity),
            connector: connector.as_ref().map(encode_identity),
            peek_off: *peek_offset,
            reset: reset.then_some(true),
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
                state.waiting.clone_from(waiting);
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

    fn decode(entry: &UnixSkEntry, queue: Queue) -> Result<Self, &'static str> {
        let kind = i32::try_from(entry.kind).ok().and_then(Kind::from_raw);
        let kind = kind.ok_or("its type is none")?;
        if entry.uflags != 0 {
            return Err("a plugin looks after it");
        }
        let state = entry.dormouse.clone().unwrap_or_default();
        let connection = match (entry.state, entry.peer, state.closed_peer.clone()) {
            (LISTEN, 0, None) if kind.is_mutual() => Connection::Listening(state.waiting.clone()),
            (ESTABLISHED | CLOSE, 0, Some(name)) => Connection::Closed(name),
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

fn encode_identity(identity: &Identity) -> UnixCredEntry {
    let Identity { pid, uid, gid, groups } = identity.clone();
    UnixCredEntry { pid: pid.as_raw(), uid, gid, groups }
}

fn decode_identity(entry: &UnixCredEntry) -> Result<Identity, &'static str> {
    let UnixCredEntry { pid, uid, gid, groups } = entry.clone();
    let pid = NsPid::from_raw(pid).ok_or("the pid of its peer is none")?;
    if groups.len() > MAX_GROUPS {
        return Err("its peer has too many groups");
    }
    Ok(Identity { pid, uid, gid, groups })
}

/// Sockets outside that have an entry already, by inode.
#[derive(Default)]
struct Sink(BTreeSet<u32>);

impl SinkPart for Sink {
    fn finish(self: Box<Self>, _: &NewPart) -> Result<()> {
        Ok(())
    }
}

/// All sockets that were decoded.
struct Source {
    set: Rc<Set>,
    sockets: RefCell<BTreeMap<FileId, Rc<Spec>>>,
    /// By inode.
    outside: BTreeMap<u32, Outside>,
}

impl SourcePart for Source {
    fn open(_: &ImageDir) -> Result<Self> {
        let (set, sockets) = (Rc::default(), RefCell::default());
        Ok(Self { set, sockets, outside: BTreeMap::new() })
    }

    fn end(self) -> Result<()> {
        self.set
            .complete(self.sockets.take(), &self.outside)
            .map_err(|(id, reason)| corrupt(ImageName::Files, Unix::NAME, id.as_raw(), reason))
    }
}

impl FileKind for Unix {
    const NAME: &'static str = "unix socket";
    const TYPE: FdType = FdType::UnixSk;
    const RANKS: &'static [FillRank] = &[FillRank::Contents, FillRank::Arm];

    fn claims(probe: &Probe) -> bool {
        probe.socket_family() == Some(SocketFamily::UNIX)
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        Ok(Self { status, spec: Rc::new(Spec::collect(cx, probe)?), set: None })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, spec, set: _ } = self;
        images.part::<QueueSink>().put(id, spec.queue.encode(id));
        if let Connection::Outside(outside) = &spec.connection
            && images.part::<Sink>().0.insert(outside.inode)
        {
            images.put(outside.id, outside.encode());
        }
        let (flags, fown) = status.encode();
        let usk = UnixSkEntry { id: id.as_raw(), flags, fown, ..spec.encode() };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            usk: Some(Box::new(usk)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, images: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(entry) = entry.usk.as_deref() else {
            return Err(wrong("it has no unix_sk_entry"));
        };
        if entry.id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let status = Status::decode(Self::NAME, id, entry.flags, &entry.fown)?;
        if entry.uflags == EXTERN && entry.peer == 0 {
            // It only lends its address to those that name its inode.
            images.share(id);
            let outside = Outside::decode(id, entry).map_err(wrong)?;
            images.part::<Source>()?.outside.insert(entry.ino, outside);
            let like = UnixSkEntry { uflags: 0, state: CLOSE, ..entry.clone() };
            let spec = Rc::new(Spec::decode(&like, Queue::default()).map_err(wrong)?);
            return Ok(Self { status, spec, set: None });
        }
        let packets = images.part::<QueueSource>()?.take(id).into_iter().map(|(entry, bytes)| {
            Packet::decode(&entry, bytes).map_err(|reason| sk_queues::wrong(&entry, reason))
        });
        let queue = Queue { packets: packets.collect::<Result<_>>()? };
        for &file in queue.packets.iter().flat_map(|packet| &packet.rights) {
            let place = (ImageName::SkQueues, "packet for socket", u64::from(id.as_raw()));
            images.file_ref(file.as_raw(), Use::Description, place);
        }
        let spec = Rc::new(Spec::decode(entry, queue).map_err(wrong)?);
        let source = images.part::<Source>()?;
        source.sockets.borrow_mut().insert(id, Rc::clone(&spec));
        Ok(Self { status, spec, set: Some(Rc::clone(&source.set)) })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, id: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let set = self.set.as_ref().expect("a socket that is created was decoded");
        let file = set.take(id)?;
        self.status.apply(Self::NAME, file.as_fd())?;
        Ok(file)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(rank: FillRank, files: &[Created<'_, Self>], cx: &FillCx<'_>) -> Result<()> {
        // All of them are in the same one.
        let Some(set) = files.iter().find_map(|file| file.kind.set.as_ref()) else {
            return Ok(());
        };
        if rank == FillRank::Arm {
            set.keep();
            return Ok(());
        }
        let sockets = files.iter().map(|socket| (socket.id, socket.file));
        set.fill(&sockets.collect(), cx)
    }
}
