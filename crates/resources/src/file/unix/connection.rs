//! Whom a socket is connected to.

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dormouse_image::proto::files::FileEntry;
use dormouse_image::proto::files::unix::UnixSkEntry;
use dormouse_kernel::Errno;
use dormouse_kernel::sock_diag::{UnixDiag, UnixPeer};
use dormouse_kernel::socket::{UnixAddress, peer_name};

use super::Unix;
use super::spec::{Kind, LISTEN, NET_NS};
use super::survey::UnixSurvey;
use super::waiting::{self, Waiting};
use crate::file::probe::Duplicate;
use crate::file::{CollectCx, FileId, FileKind, Probe, UnixPeers};
use crate::{Error, Result};

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
    /// It listens; these wait to be accepted, first to be accepted first.
    Listening(Vec<Waiting>),
}

/// A socket that is not part of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outside {
    /// The number of its entry in the images.
    pub(super) id: FileId,
    pub(super) inode: u32,
    kind: Kind,
    /// Where to find another like it.
    pub(super) name: Vec<u8>,
}

/// CRIU's mark for an entry that stands for such a socket (`USK_EXTERN`).
pub(super) const EXTERN: u32 = 1;

impl Outside {
    pub(super) fn encode(&self) -> FileEntry {
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

    pub(super) fn decode(id: FileId, entry: &UnixSkEntry) -> Result<Self, &'static str> {
        let kind = i32::try_from(entry.kind).ok().and_then(Kind::from_raw);
        let name = entry.name.clone();
        if name.is_empty() || UnixAddress::new(&name).is_none() {
            return Err("it is outside, and has no address");
        }
        let kind = kind.ok_or("its type is none")?;
        Ok(Self { id, inode: entry.ino, kind, name })
    }
}

impl Connection {
    pub(super) fn collect(
        cx: &CollectCx<'_>,
        probe: &Probe,
        (socket, listed): (&Duplicate<'_>, &UnixDiag),
    ) -> Result<Self> {
        let mut survey = cx.part::<UnixSurvey>();
        survey.count_ours(cx.probes.values());
        if u32::from(listed.state) == LISTEN {
            // Zero stands for one who has closed.
            if !listed.waiting.iter().all(|&inode| inode == 0 || survey.is_ours(inode)) {
                return Err(unsupported(
                    probe,
                    "a process that is not part of the checkpoint waits to be accepted there",
                    "checkpoint the program when it has accepted the connection",
                ));
            }
            let waiting = waiting::collect(cx, probe, (socket, listed), &mut survey)?;
            return Ok(Self::Listening(waiting));
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
                Some(listener) => Ok(Self::Waiting(listener)),
            },
        }
    }

    /// To one that has closed.
    fn closed(probe: &Probe, socket: &Duplicate<'_>) -> Result<Self> {
        match peer_name(socket.get()?) {
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
        (socket, listed): (&Duplicate<'_>, &UnixDiag),
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
    if let Some(peer) = peer
        && !is_open(peer.inode)
    {
        return unsupported(
            probe,
            "no process has its peer open any more: a message holds it that nobody can receive, such as one in \
             its own queue",
            "have it come back as if its peer had closed, by --unix-peer=close, or close it first",
        );
    }
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

/// Whether a process has a socket open, as far as that can be seen. Only for errors: it looks at every
/// descriptor of the system.
fn is_open(inode: u32) -> bool {
    let link = format!("socket:[{inode}]");
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let is_it = |fd: DirEntry| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == &*link);
    let has_it = |process: DirEntry| entries(&process.path().join("fd")).any(is_it);
    entries(Path::new("/proc")).any(has_it)
}

/// The error for a connection or a type that cannot be kept.
pub(super) fn unsupported(probe: &Probe, reason: &'static str, hint: &'static str) -> Error {
    Error::Unsupported { object: "a unix socket", detail: probe.link.clone().into(), reason, hint }
}
