//! What can be learned of all sockets at once, and what is in their queues.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use dormouse_kernel::sock_diag::{SockDiag, UnixDiag, UnixPeer};
use dormouse_kernel::socket::SocketOption;

use super::buffers::Buffers;
use super::creation::socket;
use super::datagrams::{Datagrams, await_room};
use super::embryos::Embryo;
use super::model::Models;
use super::queue::{Packet, Queue};
use super::reader::Reader;
use super::spec::Kind;
use crate::file::kernel_files::InnerSocket;
use crate::file::likeness::{Known, Places};
use crate::file::stand_in::Identity;
use crate::file::{FileId, KernelFiles, Probe, SocketFamily};
use crate::{Error, Result};

/// The unix sockets of a dump, and the descriptors in flight through them.
///
/// Sockets are listed once for all. A queue is read once, when its socket is
/// found: only then it is known which other files there are.
#[derive(Debug, Default)]
pub struct UnixSurvey {
    listed: Option<Listed>,
    queues: BTreeMap<FileId, Queue>,
    /// Sockets of the tree, by inode, each with its file if that is in flight and nowhere else;
    /// known once the first is collected.
    ours: Option<BTreeMap<u32, Option<FileId>>>,
    /// What the kernel's memory has of them, if that was read.
    inner: BTreeMap<FileId, Inner>,
    /// Where options are in it.
    places: Option<Rc<Places>>,
    /// New sockets.
    models: Models,
    /// Who is on the other side, by where the kernel has that.
    peers: BTreeMap<[u64; 2], Option<Identity>>,
    /// What tells how streams are divided.
    buffers: Buffers,
    /// What reads connections that nobody has accepted, and datagrams, or that this cannot be done, once that was
    /// tried.
    reader: Option<Option<Reader>>,
    /// What was read of datagrams in the kernel's memory.
    datagrams: BTreeMap<FileId, Datagrams>,
}

/// What the kernel's memory has of a socket.
#[derive(Debug)]
struct Inner {
    socket: InnerSocket,
    kind: Kind,
}

/// All sockets of the network namespace.
#[derive(Debug, Default)]
struct Listed {
    by_inode: BTreeMap<u32, UnixDiag>,
    /// Who listens, by the inode of who waits to be accepted there.
    waiting: BTreeMap<u32, u32>,
}

impl Listed {
    fn read() -> Result<Self> {
        let mut listed = Self::default();
        for socket in SockDiag::open()?.unix()? {
            let waiting = socket.waiting.iter().filter(|&&inode| inode != 0);
            listed.waiting.extend(waiting.map(|&inode| (inode, socket.inode)));
            listed.by_inode.insert(socket.inode, socket);
        }
        Ok(listed)
    }

    /// What the kernel lists of a file that was found, if it is a unix socket.
    fn of(&self, probe: &Probe) -> Option<&UnixDiag> {
        // sockfs has numbers of 32 bits (get_next_ino, fs/inode.c).
        let listed = self.by_inode.get(&(probe.stat.st_ino as u32));
        listed.filter(|_| probe.socket_family() == Some(SocketFamily::UNIX))
    }
}

impl UnixSurvey {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what is there of those among `probes` that are unix sockets, all in
    /// one go.
    ///
    /// # Errors
    /// A new socket cannot be made.
    pub fn look_inside<'a>(
        &mut self,
        files: &mut KernelFiles,
        probes: impl Iterator<Item = &'a Probe>,
    ) -> Result<()> {
        let mut by_kind: BTreeMap<Kind, Vec<(FileId, u64)>> = BTreeMap::new();
        for probe in probes {
            let inner = probe.socket.filter(|socket| socket.family == libc::AF_UNIX);
            let Some(inner) = inner else { continue };
            // Whoever looks at that one will say what is the matter with it.
            let Ok(listed) = self.socket(probe) else { return Ok(()) };
            let Some(kind) = Kind::from_raw(listed.kind) else { continue };
            by_kind.entry(kind).or_default().push((probe.id, inner.sock));
        }
        for (kind, sockets) in by_kind {
            let model = self.models.of(kind)?;
            let (ids, socks): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
            // Otherwise each is asked.
            let Ok(inner) = files.sockets(&socks, model, || socket(kind).ok()) else { continue };
            let inner = inner.into_iter().map(|socket| Inner { socket, kind });
            self.inner.extend(ids.into_iter().zip(inner));
        }
        self.places = Some(files.places());
        Ok(())
    }

    /// The options of a socket, asked for where a new one's may be others.
    pub(super) fn options<A>(&self, (id, kind): (FileId, Kind), socket: A) -> Result<Known<'_, A>> {
        let inner = self.inner.get(&id).map(|inner| &inner.socket.alike);
        let alike = self.places.as_deref().zip(inner);
        Ok(Known { socket, model: self.models.of(kind)?, alike })
    }

    /// Whether it is known of a socket that it has no error to tell.
    pub(super) fn is_sound(&self, id: FileId) -> bool {
        self.inner.get(&id).is_some_and(|inner| inner.socket.is_sound)
    }

    /// Who is, or was, on the other side; `ask` is whoever tells.
    pub(super) fn peer(
        &mut self,
        id: FileId,
        ask: impl FnOnce() -> Result<Option<Identity>>,
    ) -> Result<Option<Identity>> {
        let Some(inner) = self.inner.get(&id) else { return ask() };
        match self.peers.entry(inner.socket.peer) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(place) => Ok(place.insert(ask()?).clone()),
        }
    }

    /// Whether it is known of a socket that it is read from the front of its
    /// queue, and that nothing in there is out of band.
    fn is_plain(&self, id: FileId) -> bool {
        let (Some(Inner { socket, kind }), Some(places)) = (self.inner.get(&id), &self.places)
        else {
            return false;
        };
        let Ok(model) = self.models.of(*kind) else { return false };
        let known = Known { socket: (), model, alike: Some((places, &socket.alike)) };
        let as_new = |name| known.is_as_new(SocketOption::of_socket(name));
        socket.is_in_band && as_new(libc::SO_PEEK_OFF) && as_new(libc::SO_OOBINLINE)
    }

    /// Reads what waits in the queue of a file, if it is a unix socket; `probes` are all that are known so far.
    /// `number` gives a number to each descriptor that is found in flight.
    ///
    /// # Errors
    /// The socket has something in its queue that cannot be read without
    /// taking it out; or what `number` says.
    pub fn look(
        &mut self,
        probe: &Probe,
        probes: &BTreeMap<FileId, Probe>,
        mut number: impl FnMut(OwnedFd) -> Result<FileId>,
    ) -> Result<()> {
        if probe.socket_family() != Some(SocketFamily::UNIX) || self.queues.contains_key(&probe.id)
        {
            return Ok(());
        }
        let socket = self.socket(probe)?.clone();
        let queue = if Queue::may_hold(&socket) {
            let file = probe.duplicate()?;
            let is_plain = self.is_plain(probe.id);
            let place = (file.as_fd(), is_plain);
            let mut is_read = true;
            let inside = |file: BorrowedFd<'_>| {
                let read = self.datagrams((probe.id, socket.kind), file, probes);
                is_read = read.is_some();
                read
            };
            let mut queue = Queue::collect(place, &socket, &probe.link, &mut number, inside)?;
            if !is_read {
                self.wait_again(probe.id, probes)?;
            }
            self.divide(&mut queue, &socket, file.as_fd())?;
            queue
        } else {
            Queue::default()
        };
        self.queues.insert(probe.id, queue);
        Ok(())
    }

    /// What waits in a socket of datagrams.
    fn datagrams(
        &mut self,
        (id, kind): (FileId, i32),
        file: BorrowedFd<'_>,
        probes: &BTreeMap<FileId, Probe>,
    ) -> Option<Vec<Packet>> {
        if kind != libc::SOCK_DGRAM {
            return None;
        }
        let (read, packets) = self.reader()?.datagrams(file, probes)?;
        self.datagrams.insert(id, read);
        packets
    }

    /// The sockets of datagrams there are, if they can be found.
    fn datagram_sockets(
        &mut self,
        probes: &BTreeMap<FileId, Probe>,
    ) -> Result<Option<&BTreeMap<u64, FileId>>> {
        let Self { reader: Some(Some(reader)), listed, .. } = self else { return Ok(None) };
        reader.datagram_sockets(probes, |probe| {
            let listed = listed.as_ref().and_then(|listed| listed.of(probe));
            listed.is_some_and(|socket| socket.kind == libc::SOCK_DGRAM)
        })
    }

    /// Has those wait as before who were woken by looking into a socket of datagrams.
    fn wait_again(&mut self, id: FileId, probes: &BTreeMap<FileId, Probe>) -> Result<()> {
        let Some(read) = self.datagrams.remove(&id) else { return Ok(()) };
        let told = self.datagram_sockets(probes)?.map(|sockets| read.told(sockets));
        for sender in told.iter().flatten() {
            await_room(probes[sender].duplicate()?.as_fd())?;
        }
        self.datagrams.insert(id, read);
        Ok(())
    }

    /// Says who sent what waits in a socket of datagrams.
    fn attribute(
        &mut self,
        (id, queue): (FileId, &mut Queue),
        probes: &BTreeMap<FileId, Probe>,
    ) -> Result<()> {
        let Some(read) = self.datagrams.remove(&id) else { return Ok(()) };
        if let Some(sockets) = self.datagram_sockets(probes)? {
            read.attribute(queue, sockets);
        }
        Ok(())
    }

    /// What reads in the kernel's memory.
    fn reader(&mut self) -> Option<&mut Reader> {
        self.reader.get_or_insert_with(Reader::open).as_mut()
    }

    /// Divides a stream as whoever writes to it can tell.
    fn divide(&mut self, queue: &mut Queue, socket: &UnixDiag, file: BorrowedFd<'_>) -> Result<()> {
        let UnixPeer::Socket(peer) = socket.peer else { return Ok(()) };
        let charged = self.other(peer).map(|peer| peer.sent);
        let (Some(charged), libc::SOCK_STREAM) = (charged, socket.kind) else { return Ok(()) };
        if let [packet] = &queue.packets[..]
            && self.buffers.is_one(packet.bytes.len(), charged)?
        {
            return Ok(());
        }
        queue.divide(&self.buffers.of(file));
        Ok(())
    }

    /// What the kernel lists of a socket.
    pub(super) fn socket(&mut self, probe: &Probe) -> Result<&UnixDiag> {
        if self.listed.as_ref().is_none_or(|listed| listed.of(probe).is_none()) {
            // Others that came or went beside it may have hidden it.
            self.listed = Some(Listed::read()?);
        }
        let listed = self.listed.as_ref().and_then(|listed| listed.of(probe));
        listed.ok_or_else(|| Error::Unsupported {
            object: "a unix socket",
            detail: probe.link.clone().into(),
            reason: "it belongs to another network namespace",
            hint: "run dormouse inside of that network namespace",
        })
    }

    /// Another socket, by its inode.
    pub(super) fn other(&self, inode: u32) -> Option<&UnixDiag> {
        self.listed.as_ref()?.by_inode.get(&inode)
    }

    /// The names of all sockets.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.listed.iter().flat_map(|listed| listed.by_inode.values());
        all.map(|socket| &socket.name[..])
    }

    /// The connections that wait for a listener to accept them, or why they cannot be read.
    pub(super) fn embryos(
        &mut self,
        listener: BorrowedFd<'_>,
    ) -> Result<Vec<Embryo>, &'static str> {
        let reader = self.reader().ok_or(
            "connections wait to be accepted by which something was sent, or that were closed again, and \
             the kernel's memory cannot be read",
        )?;
        reader.embryos.of(listener)
    }

    /// The file of the tree that the kernel has there, if it is one.
    pub(super) fn file_at(
        &mut self,
        at: u64,
        probes: &BTreeMap<FileId, Probe>,
    ) -> Result<Option<FileId>> {
        let Some(Some(reader)) = &mut self.reader else { return Ok(None) };
        Ok(reader.files(probes)?.get(&at).copied())
    }

    /// Who listens where this socket waits to be accepted.
    pub(super) fn waits_for(&self, inode: u32) -> Option<u32> {
        self.listed.as_ref()?.waiting.get(&inode).copied()
    }

    /// What was in the queue of a socket; to be asked for once.
    pub(super) fn take_queue(
        &mut self,
        probe: &Probe,
        probes: &BTreeMap<FileId, Probe>,
    ) -> Result<Queue> {
        let unseen = |_| {
            Err(Error::Unsupported {
                object: "a descriptor in flight",
                detail: probe.link.clone().into(),
                reason: "it was sent while the checkpoint was made",
                hint: "try again",
            })
        };
        self.look(probe, probes, unseen)?;
        let mut queue = self.queues.remove(&probe.id).unwrap_or_default();
        self.attribute((probe.id, &mut queue), probes)?;
        Ok(queue)
    }

    /// Notes which sockets are of the tree.
    pub(super) fn count_ours<'a>(&mut self, probes: impl Iterator<Item = &'a Probe>) {
        let unix = |probe: &&Probe| probe.socket_family() == Some(SocketFamily::UNIX);
        let inode =
            |probe: &Probe| (probe.stat.st_ino as u32, probe.is_in_flight().then_some(probe.id));
        self.ours.get_or_insert_with(|| probes.filter(unix).map(inode).collect());
    }

    /// Whether a socket is of the tree.
    pub(super) fn is_ours(&self, inode: u32) -> bool {
        self.ours.as_ref().is_some_and(|ours| ours.contains_key(&inode))
    }

    /// The file of a socket of the tree, if that is in flight and nowhere else.
    pub(super) fn in_flight(&self, inode: u32) -> Option<FileId> {
        self.ours.as_ref().and_then(|ours| ours.get(&inode).copied().flatten())
    }
}
