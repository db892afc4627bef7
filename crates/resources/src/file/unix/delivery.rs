//! Connects sockets of datagrams, and has what waits there be sent again by who has sent it.
//!
//! A socket that is connected to another than before, or to nobody any more, forgets what it has not read
//! (`unix_dgram_disconnected`). So what waits it has heard while it was connected to nobody, from anybody, as
//! much as fits (`net.unix.max_dgram_qlen`); and then, if it is connected, from its peer alone, any number. Nobody
//! can connect to one that is connected to somebody else (`unix_may_send`). And who has no name hears nobody but
//! whom `socketpair(2)` has made along with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_kernel::Errno;
use dormouse_kernel::socket::{Outgoing, UnixAddress, bind, connect, disconnect};
use rustix::net::getsockname;

use super::address::{Address, Binding, Publish, bind_all, reach};
use super::creation::{Maker, socket, widen};
use super::filling::Filler;
use super::queue::{Packet, Sender};
use super::set::Link;
use super::spec::Kind;
use crate::file::FileId;
use crate::{Error, Result};

/// Who sends, or is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party<'a> {
    Socket(FileId),
    /// Whom a socket was made along with, which is not of the checkpoint.
    Ghost,
    /// Another that is not of the checkpoint, by its address.
    Stranger(&'a [u8]),
    /// One that lives on outside, by its address: nothing is sent in its name.
    Outside(&'a [u8]),
}

/// A socket that is not of the checkpoint, for now.
pub(super) struct Stranger {
    file: OwnedFd,
    to: Option<Reach>,
}

/// How to reach a socket for now.
struct Reach {
    to: UnixAddress,
    /// The inode that this leads to.
    _file: Option<OwnedFd>,
}

impl Stranger {
    fn new(name: &[u8]) -> Result<Self> {
        let file = socket(Kind::Datagram)?;
        widen(file.as_fd())?;
        let to = (!name.is_empty()).then(|| bind_reachable(file.as_fd(), name)).transpose()?;
        Ok(Self { file, to })
    }
}

/// Binds a socket to a name that leads nowhere any more, or to another by now.
pub(super) fn bind_lost(socket: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    bind_reachable(socket, name).map(drop)
}

/// As [`bind_lost`], and tells how to reach it for now.
fn bind_reachable(socket: BorrowedFd<'_>, name: &[u8]) -> Result<Reach> {
    let address = Address::lost(name.to_vec());
    let binding = Binding { socket, address: &address, publish: Publish::IfMissing };
    let file = bind_all(&[binding])?.pop().and_then(|bound| bound.file);
    Ok(Reach { to: reach(&address, file.as_ref()), _file: file })
}

/// A socket, and what it has to hear.
struct Inbox<'a> {
    id: FileId,
    packets: &'a [Packet],
    senders: Vec<Party<'a>>,
    /// How many it has heard while it was connected to nobody.
    free: usize,
    /// Whom it was made along with.
    born_to: Option<Party<'a>>,
    /// Whom it is connected to in the end.
    peer: Option<Party<'a>>,
}

impl Inbox<'_> {
    /// Whom it has to call on to be connected to, if that is another socket of the checkpoint.
    fn calls_on(&self) -> Option<FileId> {
        match self.peer {
            Some(Party::Socket(peer)) if peer != self.id => Some(peer),
            _ => None,
        }
    }
}

impl Maker<'_> {
    /// Has those be connected to one that has closed whose abstract name another has by now: nobody can have it
    /// once that one is bound.
    pub(super) fn make_orphans(&mut self) -> Result<()> {
        let family = self.family;
        let named = family.sockets.values().filter_map(|member| member.spec.address.as_ref());
        let names: BTreeSet<_> = named.map(|address| &address.name[..]).collect();
        for (id, member) in family.of_kind(true) {
            let Link::Closed(name) = &member.link else { continue };
            let is_taken = name.first() == Some(&0) && names.contains(&name[..]);
            // What it has heard came before it was connected.
            let is_late =
                !member.spec.queue.packets.is_empty() || self.made.paired.contains_key(&id);
            if !is_taken || is_late {
                continue;
            }
            let file = socket(Kind::Datagram)?;
            let stranger = Stranger::new(name)?;
            let reach = stranger.to.as_ref().expect("it has a name");
            connect(&file, &reach.to).map_err(Error::kernel("connect", "a unix socket"))?;
            self.made.files.insert(id, file);
            self.made.orphans.insert(id);
        }
        Ok(())
    }
}

impl<'a> Filler<'a> {
    /// Does all that.
    pub(super) fn deliver(&mut self) -> Result<()> {
        let all: Vec<_> = self.family.of_kind(true).map(|(id, _)| self.inbox(id)).collect();
        for sender in all.iter().flat_map(|inbox| &inbox.senders) {
            if let Party::Stranger(name) = *sender
                && !self.strangers.contains_key(name)
            {
                self.strangers.insert(name, Stranger::new(name)?);
            }
        }
        let calls = all.iter().filter(|inbox| inbox.born_to != inbox.peer);
        let called: BTreeSet<_> = calls.filter_map(Inbox::calls_on).collect();
        // They are connected as they are to be.
        let stays = |inbox: &&Inbox<'_>| {
            let is_born = inbox.born_to.is_some() && inbox.born_to == inbox.peer;
            is_born && inbox.free == 0 && !called.contains(&inbox.id)
        };
        let (staying, leaving): (Vec<_>, Vec<_>) = all.iter().partition(stays);
        let has_name = |inbox: &&Inbox<'_>| self.reach(inbox.id).is_some();
        // Whoever has no name hears while the other one has not left.
        for inbox in staying.iter().filter(|inbox| !has_name(inbox)) {
            self.hear(inbox, 0..inbox.packets.len())?;
        }
        let (named, nameless): (Vec<_>, Vec<_>) = leaving.into_iter().partition(has_name);
        let (hears, silent): (Vec<_>, Vec<_>) =
            nameless.into_iter().partition(|inbox| !inbox.packets.is_empty());
        for inbox in hears.iter().chain(&silent) {
            self.leave(inbox)?;
            self.hear(inbox, 0..inbox.packets.len())?;
        }
        named.iter().try_for_each(|inbox| self.leave(inbox))?;
        named.iter().try_for_each(|inbox| self.hear(inbox, 0..inbox.free))?;
        for inbox in staying.iter().filter(|inbox| has_name(inbox)) {
            self.hear(inbox, 0..inbox.packets.len())?;
        }
        let has_error = |inbox: &Inbox<'_>| self.family.get(inbox.id).spec.reset;
        for inbox in in_order(named.into_iter().chain(hears).chain(silent), has_error) {
            if has_error(inbox) {
                self.upset(inbox.id)?;
            }
            self.connect(inbox)?;
            if has_name(&inbox) {
                self.hear(inbox, inbox.free..inbox.packets.len())?;
            }
        }
        Ok(())
    }

    fn inbox(&self, id: FileId) -> Inbox<'a> {
        let member = self.family.get(id);
        let ghost = || self.made.ghosts.contains_key(&id);
        let peer = match &member.link {
            Link::Peer(peer) => Some(Party::Socket(*peer)),
            Link::Closed(_) if ghost() => Some(Party::Ghost),
            Link::Closed(name) if !name.is_empty() => Some(Party::Stranger(name)),
            Link::Outside(name) => Some(Party::Outside(name)),
            _ => None,
        };
        let born_to = self.made.paired.get(&id);
        let born_to = born_to.map(|partner| partner.map_or(Party::Ghost, Party::Socket));
        let born_to = if self.made.orphans.contains(&id) { peer } else { born_to };
        let packets = &member.spec.queue.packets;
        let senders: Vec<_> =
            packets.iter().map(|packet| self.sender((id, packet), peer, born_to)).collect();
        // From its own peer it may have heard then as well, but nobody can tell.
        let last = senders.iter().rposition(|&sender| Some(sender) != peer);
        let free = last.map_or(0, |last| last + 1);
        Inbox { id, packets, senders, free, born_to, peer }
    }

    fn sender(
        &self,
        (id, packet): (FileId, &'a Packet),
        peer: Option<Party<'a>>,
        born_to: Option<Party<'a>>,
    ) -> Party<'a> {
        let from = &packet.from[..];
        let closed = match &self.family.get(id).link {
            Link::Closed(name) => Some(&name[..]),
            _ => None,
        };
        let is_nameless = |id: FileId| self.family.get(id).spec.address.is_none();
        match (packet.sender, peer, born_to) {
            (Sender::Socket(sender), ..) => Party::Socket(sender),
            (_, _, Some(partner)) if is_nameless(id) => partner,
            (_, Some(peer), _) if closed == Some(from) => peer,
            // Of two that have had one abstract name, one after the other, only one can have it.
            (Sender::Gone, ..) if from.first() != Some(&0) => Party::Stranger(from),
            _ if let Some(&sender) = self.by_name.get(from) => Party::Socket(sender),
            (Sender::Unknown, _, Some(Party::Socket(partner)))
                if from.is_empty() && is_nameless(partner) =>
            {
                Party::Socket(partner)
            }
            _ => Party::Stranger(from),
        }
    }

    fn file(&self, (id, party): (FileId, Party<'_>)) -> Option<BorrowedFd<'_>> {
        match party {
            Party::Socket(id) => self.sockets.get(&id).copied(),
            Party::Ghost => self.made.ghosts.get(&id).map(AsFd::as_fd),
            Party::Stranger(name) => self.strangers.get(name).map(|stranger| stranger.file.as_fd()),
            Party::Outside(_) => None,
        }
    }

    /// Has some of what waits for a socket be sent.
    fn hear(&self, inbox: &Inbox<'_>, places: Range<usize>) -> Result<()> {
        let to = self.reach(inbox.id);
        for (packet, &sender) in inbox.packets[places.clone()].iter().zip(&inbox.senders[places]) {
            // Without an address it goes to whom the sender is connected to.
            let file = self.file((inbox.id, sender));
            let file = file.filter(|_| to.is_some() || inbox.born_to == Some(sender));
            let nobody = || Error::kernel("sendmsg", "a unix socket")(Errno::NOTCONN);
            self.send(file.ok_or_else(nobody)?, packet, to.as_ref())?;
        }
        Ok(())
    }

    /// Has a socket be connected to nobody.
    fn leave(&self, inbox: &Inbox<'_>) -> Result<()> {
        if inbox.born_to.is_none() {
            return Ok(());
        }
        disconnect(self.sockets[&inbox.id]).map_err(Error::kernel("connect", "a unix socket"))
    }

    /// Has one that is connected to nobody be told that its peer has left without reading all: another takes
    /// the place of that peer. When it sends something the next time, that fails.
    fn upset(&self, id: FileId) -> Result<()> {
        let failed = |call| Error::kernel(call, "a unix socket");
        let file = self.sockets[&id];
        let to = self.reach(id).ok_or(Errno::DESTADDRREQ).map_err(failed("connect"))?;
        let other = socket(Kind::Datagram)?;
        // A name of its own, whichever is free.
        let any = UnixAddress::new(&[]).expect("the shortest there is");
        bind(other.as_fd(), &any).map_err(failed("bind"))?;
        connect(&other, &to).map_err(failed("connect"))?;
        let back = getsockname(&other).map_err(failed("getsockname"))?;
        rustix::net::connect(file, &back).map_err(failed("connect"))?;
        let unread = Outgoing { bytes: &[0], ..Outgoing::default() };
        unread.send(file).map_err(failed("sendmsg"))?;
        disconnect(&other).map_err(failed("connect"))?;
        disconnect(file).map_err(failed("connect"))
    }

    /// Has it be connected to whom it is in the end.
    fn connect(&self, inbox: &Inbox<'_>) -> Result<()> {
        let failed = || Error::kernel("connect", "a unix socket");
        let alone;
        let to = match inbox.peer {
            None => return Ok(()),
            Some(Party::Socket(peer)) => self.reach(peer),
            Some(Party::Outside(name)) => UnixAddress::new(name),
            Some(Party::Stranger(name)) => {
                let stranger = match self.strangers.get(name) {
                    Some(stranger) => stranger,
                    None => {
                        // It goes at once.
                        alone = Stranger::new(name)?;
                        &alone
                    }
                };
                stranger.to.as_ref().map(|reach| reach.to.clone())
            }
            Some(Party::Ghost) => None,
        };
        let to = to.ok_or(Errno::DESTADDRREQ).map_err(failed())?;
        connect(self.sockets[&inbox.id], &to).map_err(failed())
    }
}

/// Sockets in an order in which they can be connected: first those that call on another, which itself may be
/// connected to somebody else then. Those with an error come as late as can be.
fn in_order<'b, 'a: 'b>(
    all: impl Iterator<Item = &'b Inbox<'a>>,
    has_error: impl Fn(&Inbox<'_>) -> bool,
) -> Vec<&'b Inbox<'a>> {
    let mut open: BTreeMap<FileId, &Inbox<'_>> = all.map(|inbox| (inbox.id, inbox)).collect();
    let calls_on = |open: &BTreeMap<_, &Inbox<'_>>, inbox: &Inbox<'_>| {
        // Of two that call on each other either may be the first.
        let other = inbox.calls_on().and_then(|peer| open.get(&peer).copied());
        other.filter(|other| other.calls_on() != Some(inbox.id)).map(|other| other.id)
    };
    let mut callers: BTreeMap<FileId, usize> = BTreeMap::new();
    for called in open.values().filter_map(|inbox| calls_on(&open, inbox)) {
        *callers.entry(called).or_default() += 1;
    }
    let mut ready = VecDeque::new();
    let put = |ready: &mut VecDeque<_>, inbox: &Inbox<'_>| match has_error(inbox) {
        true => ready.push_back(inbox.id),
        false => ready.push_front(inbox.id),
    };
    let uncalled = open.values().filter(|inbox| !callers.contains_key(&inbox.id));
    uncalled.for_each(|inbox| put(&mut ready, inbox));
    let mut order = Vec::with_capacity(open.len());
    while let Some(id) = ready.pop_front() {
        let called = calls_on(&open, open[&id]);
        order.extend(open.remove(&id));
        if let Some(called) = called
            && let Some(left) = callers.get_mut(&called)
        {
            *left -= 1;
            if *left == 0 {
                put(&mut ready, open[&called]);
            }
        }
    }
    // Nobody can have connected in a ring: the kernel will say so.
    order.extend(open.into_values());
    order
}
