//! Fills queues, and does what would have been in the way of that.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_kernel::socket::{
    Credentials, Outgoing, SocketOption, UnixAddress, connect, disconnect,
};
use dormouse_kernel::{Errno, NsPid};
use rustix::net::{RecvFlags, accept, recv, shutdown};

use super::address::{Address, Binding, Publish, bind_all, reach};
use super::creation::{Made, socket, widen};
use super::queue::Packet;
use super::set::{Caller, Family, Link, Member};
use super::spec::Kind;
use crate::file::socket_options::Now;
use crate::file::stand_in::{Identity, StandIn};
use crate::file::{FileId, FileRef, FillCx};
use crate::{Error, Result};

type Sockets<'a> = BTreeMap<FileId, BorrowedFd<'a>>;

struct Filler<'a> {
    family: &'a Family,
    made: &'a Made,
    sockets: &'a Sockets<'a>,
    cx: &'a FillCx<'a>,
    /// Datagram sockets of the checkpoint, by address.
    by_name: BTreeMap<&'a [u8], FileId>,
    /// Others that have sent something, by address.
    strangers: BTreeMap<&'a [u8], OwnedFd>,
    /// Whoever takes the place of the last sender that has ended, by its pid.
    stand_in: RefCell<Option<(i32, StandIn)>>,
}

/// Fills them all.
pub(super) fn fill_all(
    family: &Family,
    made: &mut Made,
    sockets: &Sockets<'_>,
    cx: &FillCx<'_>,
) -> Result<()> {
    let by_name = family.of_kind(true).filter_map(|(id, member)| {
        member.spec.address.as_ref().map(|address| (&address.name[..], id))
    });
    let mut filler = Filler {
        family,
        made,
        sockets,
        cx,
        by_name: by_name.collect(),
        strangers: BTreeMap::new(),
        stand_in: RefCell::default(),
    };
    let datagrams: Vec<FileId> = family.of_kind(true).map(|(id, _)| id).collect();
    // Who is connected hears nobody else; but an unfull queue is only
    // certain between those who are connected to each other.
    let (early, late): (Vec<_>, Vec<_>) =
        datagrams.into_iter().partition(|&id| filler.hears_peer_only(id));
    early.into_iter().try_for_each(|id| filler.connect(id))?;
    for &id in family.sockets.keys() {
        filler.fill(id)?;
    }
    late.into_iter().try_for_each(|id| filler.connect(id))?;
    filler.reset()?;
    drop(filler);
    made.ghosts.clear();
    made.gone.clear();
    made.inodes.clear();
    for (id, &file) in sockets {
        let Member { spec, link } = family.get(*id);
        if matches!(link, Link::Listening(waiting) if waiting.is_empty()) {
            // Who has called on it (`Maker::call_on`).
            accept(file).map_err(Error::kernel("accept", "a unix socket"))?;
        }
        if let Some(how) = spec.shutdown {
            match shutdown(file, how) {
                // Nobody is there any more.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(source) => return Err(Error::kernel("shutdown", "a unix socket")(source)),
            }
        }
        let now = match made.widened.contains(id) {
            true => Now::Asked,
            false => Now::New(made.models.of(spec.kind)?),
        };
        spec.options.finish_from(file, now)?;
        if let Some(offset) = spec.peek_offset {
            SocketOption::of_socket(libc::SO_PEEK_OFF)
                .set(file, offset)
                .map_err(Error::kernel("SO_PEEK_OFF", "a unix socket"))?;
        }
    }
    Ok(())
}

impl<'a> Filler<'a> {
    fn packets(&self, id: FileId) -> &'a [Packet] {
        &self.family.get(id).spec.queue.packets
    }

    /// Whether all that a datagram socket has to read came from its peer.
    fn hears_peer_only(&self, id: FileId) -> bool {
        let Link::Peer(peer) = self.family.get(id).link else { return false };
        let name = self.family.get(peer).spec.address.as_ref();
        let name = name.map_or(&[][..], |address| &address.name);
        self.packets(id).iter().all(|packet| packet.from == name)
    }

    /// How a socket is called by those who send to it.
    fn reach(&self, id: FileId) -> Option<UnixAddress> {
        let address = self.family.get(id).spec.address.as_ref()?;
        Some(reach(address, self.made.inodes.get(&id)))
    }

    /// Connects a datagram socket.
    fn connect(&self, id: FileId) -> Result<()> {
        let file = self.sockets[&id];
        let failed = || Error::kernel("connect", "a unix socket");
        let paired = self.made.paired.get(&id);
        match &self.family.get(id).link {
            Link::Peer(peer) if paired == Some(&Some(*peer)) => Ok(()),
            Link::Peer(peer) => {
                let to = self.reach(*peer).ok_or(Errno::DESTADDRREQ).map_err(failed())?;
                connect(file, &to).map_err(failed())
            }
            Link::Closed(name) if !name.is_empty() => {
                let ghost = socket(Kind::Datagram)?;
                let address = Address::lost(name.clone());
                let binding = Binding {
                    socket: ghost.as_fd(),
                    address: &address,
                    publish: Publish::IfMissing,
                };
                let bound = bind_all(&[binding])?;
                let to = reach(&address, bound[0].file.as_ref());
                connect(file, &to).map_err(failed())
            }
            Link::Outside(name) => {
                let to = UnixAddress::new(name).expect("checked when it was decoded");
                connect(file, &to).map_err(failed())
            }
            Link::None if paired.is_some() => disconnect(file).map_err(failed()),
            _ => Ok(()),
        }
    }

    /// Has those send who wait to be accepted by a socket.
    fn fill_unaccepted(&self, id: FileId) -> Result<()> {
        for (place, (caller, waiting)) in self.family.get(id).callers().enumerate() {
            let sender = match caller {
                Caller::Socket(id) => self.sockets[&id],
                Caller::Gone => self.made.gone[&(id, place)].as_fd(),
            };
            waiting.sent.iter().try_for_each(|packet| self.send(sender, packet, None))?;
        }
        Ok(())
    }

    fn fill(&mut self, id: FileId) -> Result<()> {
        self.fill_unaccepted(id)?;
        let mutual = self.family.get(id).spec.kind.is_mutual();
        for packet in self.packets(id) {
            let nobody = || Error::kernel("sendmsg", "a unix socket")(Errno::NOTCONN);
            let (sender, to) = if mutual {
                (self.other_side(id), None)
            } else if let Some(known) = self.known_sender(id, packet) {
                known
            } else {
                self.meet(&packet.from)?;
                (self.strangers.get(&packet.from[..]).map(AsFd::as_fd), self.reach(id))
            };
            self.send(sender.ok_or_else(nobody)?, packet, to.as_ref())?;
            pass_over(self.sockets[&id], packet.read as usize)?;
        }
        Ok(())
    }

    /// Who sends what a stream has to read.
    fn other_side(&self, id: FileId) -> Option<BorrowedFd<'_>> {
        match self.family.get(id).link {
            Link::Peer(peer) => Some(self.sockets[&peer]),
            _ => self.made.ghosts.get(&id).map(AsFd::as_fd),
        }
    }

    /// The socket of the checkpoint, or peer of one, that has sent a datagram;
    /// and where to, if it is not connected to the receiver by birth.
    fn known_sender(
        &self,
        id: FileId,
        packet: &Packet,
    ) -> Option<(Option<BorrowedFd<'_>>, Option<UnixAddress>)> {
        if let Some(known) = self.by_name.get(&packet.from[..]) {
            return Some((Some(self.sockets[known]), self.reach(id)));
        }
        if !packet.from.is_empty() {
            return None;
        }
        if let Some(ghost) = self.made.ghosts.get(&id) {
            return Some((Some(ghost.as_fd()), None));
        }
        let partner = self.made.paired.get(&id).copied().flatten();
        let nameless = |id: &FileId| self.family.get(*id).spec.address.is_none();
        partner.filter(nameless).map(|partner| (Some(self.sockets[&partner]), None))
    }

    /// Makes a socket that has sent something, and is not of the checkpoint.
    fn meet(&mut self, from: &'a [u8]) -> Result<()> {
        if self.strangers.contains_key(from) {
            return Ok(());
        }
        let stranger = socket(Kind::Datagram)?;
        widen(stranger.as_fd())?;
        if !from.is_empty() {
            let address = Address::lost(from.to_vec());
            let socket = stranger.as_fd();
            bind_all(&[Binding { socket, address: &address, publish: Publish::IfMissing }])?;
        }
        self.strangers.insert(from, stranger);
        Ok(())
    }

    /// Sends a packet, in the name of whoever did.
    fn send(
        &self,
        sender: BorrowedFd<'_>,
        packet: &Packet,
        to: Option<&UnixAddress>,
    ) -> Result<()> {
        let failed = || Error::kernel("sendmsg", "a unix socket");
        let Packet { bytes, rights, from: _, credentials, urgent, read } = packet;
        let mut rights: Vec<_> = rights.iter().map(|&file| self.cx.file(FileRef(file))).collect();
        let credentials = credentials.filter(|credentials| credentials.pid > 0);
        let whole = match read {
            0 => Cow::Borrowed(&bytes[..]),
            &read => Cow::Owned([&vec![0; read as usize], &bytes[..]].concat()),
        };
        let pid = credentials.map_or(0, |credentials| credentials.pid);
        let mut stand_in = self.stand_in.borrow_mut();
        let mut sent = 0;
        loop {
            let outgoing = Outgoing {
                bytes: &whole[sent..],
                rights: &rights,
                credentials,
                to,
                urgent: *urgent,
            };
            match outgoing.send(sender) {
                Ok(some) => sent += some,
                // Whoever sent it has ended since.
                Err(Errno::SRCH) if stand_in.as_ref().is_none_or(|(of, _)| *of != pid) => {
                    // At most one at a time.
                    *stand_in = None;
                    *stand_in = Some((pid, in_place_of(credentials)?));
                    continue;
                }
                Err(source) => return Err(failed()(source)),
            }
            if sent == whole.len() {
                return Ok(());
            }
            rights.clear();
        }
    }

    /// Has those be told that their peer has closed without reading all.
    fn reset(&self) -> Result<()> {
        for (id, member) in &self.family.sockets {
            if member.spec.reset && self.made.ghosts.contains_key(id) {
                Outgoing { bytes: &[0], ..Outgoing::default() }
                    .send(self.sockets[id])
                    .map_err(Error::kernel("sendmsg", "a unix socket"))?;
            }
        }
        Ok(())
    }
}

/// Reads what was read of a stream's first buffer before.
fn pass_over(stream: BorrowedFd<'_>, mut len: usize) -> Result<()> {
    while len > 0 {
        let read = recv(stream, &mut vec![0; len][..], RecvFlags::DONTWAIT);
        match read.map_err(Error::kernel("recv", "a unix socket"))? {
            (_, 0) => return Err(Error::kernel("recv", "a unix socket")(Errno::PIPE)),
            (_, read) => len -= read,
        }
    }
    Ok(())
}

/// A process with the pid of one that has ended.
fn in_place_of(credentials: Option<Credentials>) -> Result<StandIn> {
    let pid = credentials.and_then(|credentials| NsPid::from_raw(credentials.pid));
    let identity = pid.map(|pid| Identity { pid, uid: 0, gid: 0, groups: Vec::new() });
    StandIn::new(identity.as_ref())
}
