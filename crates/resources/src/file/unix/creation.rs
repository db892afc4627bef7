//! Makes all sockets, connected as they were.
//!
//! A socket that was accepted has the address of the one that listened. So it is
//! accepted again, by that one, or if it is gone by another that takes its place
//! until then. Whoever listened and whoever connected are known to the two sides
//! (`SO_PEERCRED`): both calls are made by stand-ins.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use dormouse_kernel::socket::{SocketOption, UnixAddress};
use dormouse_puppet::Batch;
use rustix::io::ioctl_fionbio;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, socket_with};

use super::address::{Address, Binding, Bound, Publish, bind_all, reach};
use super::delivery::bind_lost;
use super::model::Models;
use super::set::{Family, Link};
use super::spec::Kind;
use crate::file::FileId;
use crate::file::socket_options::Now;
use crate::file::stand_in::{Identity, StandIn};
use crate::{Error, Result};

/// Sockets, made.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Those that are yet to be taken.
    pub(super) files: BTreeMap<FileId, OwnedFd>,
    /// Peers that have closed, by whom they were connected to.
    pub(super) ghosts: BTreeMap<FileId, OwnedFd>,
    /// Those that have closed before they were accepted, by who listens, and
    /// their places among those who wait there.
    pub(super) gone: BTreeMap<(FileId, usize), OwnedFd>,
    /// The inodes that sockets are bound to.
    pub(super) inodes: BTreeMap<FileId, OwnedFd>,
    /// Datagram sockets that are connected to each other as they are.
    pub(super) paired: BTreeMap<FileId, Option<FileId>>,
    /// Datagram sockets that are connected to one that has closed, as they are to be.
    pub(super) orphans: BTreeSet<FileId>,
    /// Paths that were not there before.
    pub(super) paths: Vec<PathBuf>,
    /// Sockets that have larger buffers for now.
    pub(super) widened: BTreeSet<FileId>,
    /// New sockets.
    pub(super) models: Models,
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.paths {
            // The restore has failed; more cannot be done.
            let _ = fs::remove_file(path);
        }
    }
}

/// A connection that is made by connecting and accepting.
struct Acceptance<'a> {
    kind: Kind,
    /// The one that accepts.
    listener: Listener,
    /// Whoever listened, and whoever connected.
    listened: Option<&'a Identity>,
    connected: Option<&'a Identity>,
    client: Side,
    accepted: Side,
}

/// A side of a connection: a socket, or the peer of one, which has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Socket(FileId),
    Ghost(FileId),
}

/// Who accepts: a socket of the checkpoint, or one that takes the place of one
/// that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Listener {
    Socket(FileId),
    Substitute(usize),
}

/// Two sockets made by `socketpair(2)`.
pub(super) struct Pair<'a> {
    pub(super) kind: Kind,
    pub(super) by: Option<&'a Identity>,
    pub(super) sides: [Option<Side>; 2],
}

/// As many as fit the shortest queue an administrator would set
/// (`net.core.somaxconn`).
const AT_ONCE: usize = 100;

/// The longest queue there can be.
pub(super) const LONGEST: i32 = i32::MAX;

pub(super) struct Maker<'a> {
    pub(super) family: &'a Family,
    pub(super) made: Made,
    acceptances: Vec<Acceptance<'a>>,
    pub(super) pairs: Vec<Pair<'a>>,
    substitutes: Vec<(Kind, Address, Option<OwnedFd>, Bound)>,
}

/// Makes them all.
pub(super) fn create_all(family: &Family) -> Result<Made> {
    let mut maker = Maker {
        family,
        made: Made::default(),
        acceptances: Vec::new(),
        pairs: Vec::new(),
        substitutes: Vec::new(),
    };
    maker.plan_connections();
    maker.plan_datagrams();
    maker.make_orphans()?;
    maker.accept_all()?;
    maker.pair_all()?;
    maker.single()?;
    maker.listen_all()?;
    maker.reconnect()?;
    let senders = family.senders();
    for (id, file) in &maker.made.files {
        let spec = &family.get(*id).spec;
        // Whoever was accepted has inherited nothing that is set by now.
        spec.options.apply_to(file.as_fd(), Now::New(maker.made.models.of(spec.kind)?))?;
        if senders.contains(id) {
            spec.options.widen(file.as_fd())?;
        }
    }
    maker.made.widened = senders;
    for (id, ghost) in &maker.made.ghosts {
        widen(ghost.as_fd())?;
        let member = family.get(*id);
        if let (Kind::Datagram, Some(name)) = (member.spec.kind, member.partner_name()) {
            bind_lost(ghost.as_fd(), name)?;
        }
    }
    Ok(maker.made)
}

/// Gives a socket that is only used here a buffer that takes anything.
pub(super) fn widen(socket: BorrowedFd<'_>) -> Result<()> {
    SocketOption::of_socket(libc::SO_SNDBUFFORCE)
        .set(socket, i32::MAX / 4)
        .map_err(Error::kernel("SO_SNDBUFFORCE", "a unix socket"))
}

/// A new socket.
pub(super) fn socket(kind: Kind) -> Result<OwnedFd> {
    let kind = match kind {
        Kind::Stream => SocketType::STREAM,
        Kind::Datagram => SocketType::DGRAM,
        Kind::SeqPacket => SocketType::SEQPACKET,
    };
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .map_err(Error::kernel("socket", "a unix socket"))
}

impl<'a> Maker<'a> {
    /// How streams and the like are connected.
    fn plan_connections(&mut self) {
        for (id, member) in self.family.of_kind(false) {
            let (other, lost) = match &member.link {
                Link::Peer(peer) if *peer > id => (Side::Socket(*peer), None),
                Link::Closed(name) if name.is_empty() => (Side::Ghost(id), None),
                Link::Closed(name) => (Side::Ghost(id), Some(Address::lost(name.clone()))),
                _ => continue,
            };
            let own = Side::Socket(id);
            let address = |side| match side {
                Side::Socket(id) => self.family.get(id).spec.address.clone(),
                Side::Ghost(_) => lost.clone(),
            };
            let (client, accepted) = match (address(own), address(other)) {
                (None, None) => {
                    let by = self.peer(own).or(self.peer(other));
                    let sides = [Some(own), Some(other)];
                    self.pairs.push(Pair { kind: member.spec.kind, by, sides });
                    continue;
                }
                (Some(address), None) => (other, (own, address)),
                (None, Some(address)) => (own, (other, address)),
                (Some(one), Some(two)) if self.is_accepted((id, &one), (other, &two)) => {
                    (other, (own, one))
                }
                (Some(_), Some(two)) => (own, (other, two)),
            };
            let (accepted, address) = accepted;
            let kind = member.spec.kind;
            let listener = self.listener(kind, address);
            self.acceptances.push(Acceptance {
                kind,
                listener,
                listened: self.peer(client),
                connected: self.peer(accepted),
                client,
                accepted,
            });
        }
    }

    /// Whom a socket has on its other side.
    fn peer(&self, side: Side) -> Option<&'a Identity> {
        match side {
            Side::Socket(id) => self.family.get(id).spec.peer.as_ref(),
            Side::Ghost(_) => None,
        }
    }

    /// Which of two sides that both have an address was accepted: whether it
    /// is the first. It shares its address with who listened, and with others
    /// that were accepted.
    fn is_accepted(&self, one: (FileId, &Address), other: (Side, &Address)) -> bool {
        let Side::Socket(other_id) = other.0 else { return true };
        let kind = self.family.get(one.0).spec.kind;
        let shared = |(id, address): (FileId, &Address)| {
            let same = |(other, member): &(FileId, &super::set::Member)| {
                let theirs = member.spec.address.as_ref();
                *other != id
                    && member.spec.kind == kind
                    && theirs.is_some_and(|theirs| theirs.key() == address.key())
            };
            self.family.of_kind(false).any(|found| same(&found))
        };
        match (shared(one), shared((other_id, other.1))) {
            (true, false) => true,
            (false, true) => false,
            // An accepted socket is younger than the one that connected.
            _ => self.family.get(one.0).spec.inode > self.family.get(other_id).spec.inode,
        }
    }

    /// Who accepts at an address.
    fn listener(&mut self, kind: Kind, address: Address) -> Listener {
        let same = |theirs: &Address| {
            let vague = |address: &Address| address.key().1.is_none();
            theirs.key() == address.key()
                || theirs.name == address.name && (vague(theirs) || vague(&address))
        };
        let listens = self.family.of_kind(false).find(|(_, member)| {
            matches!(member.link, Link::Listening(_))
                && member.spec.kind == kind
                && member.spec.address.as_ref().is_some_and(same)
        });
        if let Some((id, _)) = listens {
            return Listener::Socket(id);
        }
        let known =
            self.substitutes.iter().position(|(own, theirs, ..)| *own == kind && same(theirs));
        Listener::Substitute(known.unwrap_or_else(|| {
            self.substitutes.push((kind, address.clone(), None, Bound::default()));
            self.substitutes.len() - 1
        }))
    }

    fn put(&mut self, side: Side, file: OwnedFd) {
        match side {
            Side::Socket(id) => self.made.files.insert(id, file),
            Side::Ghost(id) => self.made.ghosts.insert(id, file),
        };
    }

    fn side(&self, side: Side) -> BorrowedFd<'_> {
        match side {
            Side::Socket(id) => self.made.files[&id].as_fd(),
            Side::Ghost(id) => self.made.ghosts[&id].as_fd(),
        }
    }

    /// Binds sockets of the checkpoint.
    fn bind(&mut self, ids: &[FileId]) -> Result<()> {
        let family = self.family;
        let bindings: Vec<_> = ids
            .iter()
            .filter_map(|id| {
                let address = family.get(*id).spec.address.as_ref()?;
                let socket = self.made.files[id].as_fd();
                Some((*id, Binding { socket, address, publish: Publish::Always }))
            })
            .collect();
        let (ids, bindings): (Vec<_>, Vec<_>) = bindings.into_iter().unzip();
        let bound = bind_all(&bindings)?;
        for (id, Bound { file, made }) in ids.into_iter().zip(bound) {
            self.made.paths.extend(made);
            if let Some(file) = file {
                self.made.inodes.insert(id, file);
            }
        }
        Ok(())
    }

    /// Makes all connections that are accepted.
    fn accept_all(&mut self) -> Result<()> {
        let mut listening = BTreeSet::new();
        for (id, member) in self.family.of_kind(false) {
            if matches!(member.link, Link::Listening(_)) {
                self.made.files.insert(id, socket(member.spec.kind)?);
                listening.insert(id);
            }
        }
        let mut acceptances = std::mem::take(&mut self.acceptances);
        let mut named: Vec<_> = listening.into_iter().collect();
        for acceptance in &acceptances {
            let file = socket(acceptance.kind)?;
            self.put(acceptance.client, file);
            if let Side::Socket(id) = acceptance.client {
                named.push(id);
            }
        }
        self.bind(&named)?;
        self.bind_substitutes()?;
        acceptances.sort_by(|one, other| {
            let key = |one: &Acceptance<'a>| (one.listened, one.connected, one.listener);
            key(one).cmp(&key(other))
        });
        for by_listener in acceptances.chunk_by(|one, other| one.listened == other.listened) {
            let listeners: BTreeSet<_> = by_listener.iter().map(|one| one.listener).collect();
            let mut batch = Batch::new();
            for &listener in &listeners {
                let fd = self.accepting(listener).0.as_raw_fd();
                batch.call(libc::SYS_listen, [fd.into(), LONGEST.into()]);
            }
            StandIn::new(by_listener[0].listened)?.run(batch)?;
            for by_client in by_listener.chunk_by(|one, other| one.connected == other.connected) {
                let mut stand_in = StandIn::new(by_client[0].connected)?;
                for some in by_client.chunks(AT_ONCE) {
                    self.connect(&mut stand_in, some)?;
                }
            }
        }
        self.substitutes.clear();
        Ok(())
    }

    /// Has a stand-in connect, and accepts.
    fn connect(&mut self, stand_in: &mut StandIn, some: &[Acceptance<'_>]) -> Result<()> {
        let mut batch = Batch::new();
        for acceptance in some {
            let (_, to) = self.accepting(acceptance.listener);
            connect(&mut batch, self.side(acceptance.client), &to);
        }
        stand_in.run(batch)?;
        for acceptance in some {
            let (listener, _) = self.accepting(acceptance.listener);
            let file = accept_with(listener, SocketFlags::CLOEXEC)
                .map_err(Error::kernel("accept", "a unix socket"))?;
            self.put(acceptance.accepted, file);
        }
        Ok(())
    }

    fn bind_substitutes(&mut self) -> Result<()> {
        for (kind, _, file, _) in &mut self.substitutes {
            *file = Some(socket(*kind)?);
        }
        let bindings = self.substitutes.iter().filter_map(|(_, address, file, _)| {
            let socket = file.as_ref()?.as_fd();
            Some(Binding { socket, address, publish: Publish::IfMissing })
        });
        let all = bind_all(&bindings.collect::<Vec<_>>())?;
        for ((_, _, _, bound), mut new) in self.substitutes.iter_mut().zip(all) {
            self.made.paths.extend(new.made.take());
            *bound = new;
        }
        Ok(())
    }

    /// Who accepts, and how it is called.
    fn accepting(&self, listener: Listener) -> (BorrowedFd<'_>, UnixAddress) {
        match listener {
            Listener::Socket(id) => (self.made.files[&id].as_fd(), reach_of(self, id)),
            Listener::Substitute(index) => {
                let (_, address, file, bound) = &self.substitutes[index];
                let file = file.as_ref().expect("made before it is used").as_fd();
                (file, reach(address, bound.file.as_ref()))
            }
        }
    }

    /// Makes all pairs.
    fn pair_all(&mut self) -> Result<()> {
        let mut pairs = std::mem::take(&mut self.pairs);
        pairs.sort_by_key(|pair| pair.by);
        for same in pairs.chunk_by(|one, other| one.by == other.by) {
            let mut stand_in = StandIn::new(same[0].by)?;
            let mut batch = Batch::new();
            let mut outs = Vec::new();
            for pair in same {
                let out = batch.out(8);
                let kind = pair.kind.as_raw() | libc::SOCK_CLOEXEC;
                let args = [libc::AF_UNIX.into(), kind.into(), 0.into(), (&out).into()];
                batch.call(libc::SYS_socketpair, args);
                outs.push(out);
            }
            let replies = stand_in.run(batch)?;
            for (pair, out) in same.iter().zip(outs) {
                let numbers = replies.array::<8>(&out).as_chunks::<4>().0.iter();
                let fds = stand_in.fetch(numbers.map(|&bytes| u32::from_ne_bytes(bytes)))?;
                for (side, file) in pair.sides.into_iter().zip(fds) {
                    if let Some(side) = side {
                        self.put(side, file);
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the rest, and gives all that need it their addresses.
    fn single(&mut self) -> Result<()> {
        let family = self.family;
        let mut named = Vec::new();
        for (&id, member) in &family.sockets {
            match self.made.files.entry(id) {
                Entry::Vacant(place) => {
                    place.insert(socket(member.spec.kind)?);
                }
                Entry::Occupied(_) if member.spec.kind == Kind::Datagram => {}
                Entry::Occupied(_) => continue,
            }
            named.push(id);
        }
        self.bind(&named)
    }

    /// Connects streams to others that are not of the checkpoint, without
    /// waiting for those.
    fn reconnect(&self) -> Result<()> {
        for (id, member) in self.family.of_kind(false) {
            let Link::Outside(name) = &member.link else { continue };
            let file = &self.made.files[&id];
            let to = UnixAddress::new(name).expect("checked when it was decoded");
            let mut batch = Batch::new();
            connect(&mut batch, file.as_fd(), &to);
            let failed = || Error::kernel("ioctl", "a unix socket");
            ioctl_fionbio(file, true).map_err(failed())?;
            StandIn::new(member.spec.connector.as_ref())?.run(batch)?;
            ioctl_fionbio(file, false).map_err(failed())?;
        }
        Ok(())
    }
}

/// How a socket of the checkpoint is called.
pub(super) fn reach_of(maker: &Maker<'_>, id: FileId) -> UnixAddress {
    let address = maker.family.get(id).spec.address.as_ref();
    reach(address.expect("who listens has an address"), maker.made.inodes.get(&id))
}

/// Adds a call that connects a socket.
pub(super) fn connect(batch: &mut Batch, socket: BorrowedFd<'_>, to: &UnixAddress) {
    let len = to.as_bytes().len() as u64;
    let to = batch.data(to.as_bytes());
    batch.call(libc::SYS_connect, [socket.as_raw_fd().into(), to.into(), len.into()]);
}
