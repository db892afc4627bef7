//! All sockets of a checkpoint: who belongs to whom.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::connection::{Connection, Outside};
use super::creation::{self, Made};
use super::filling;
use super::queue::{Queue, Sender};
use super::spec::{Kind, Spec};
use super::waiting::{Client, Waiting};
use crate::Result;
use crate::file::{FileId, FillCx};

/// All sockets, to be made and filled together.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// Once all are known.
    family: OnceCell<Family>,
    made: RefCell<Option<Made>>,
}

/// The sockets, and how they are connected: judged.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) sockets: BTreeMap<FileId, Member>,
}

/// A socket.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) spec: Rc<Spec>,
    pub(super) link: Link,
}

impl Member {
    /// Those who wait to be accepted and of whom more is known.
    pub(super) fn callers(&self) -> impl Iterator<Item = (Caller, &Waiting)> {
        let callers = match &self.link {
            Link::Listening(callers) => &callers[..],
            _ => &[],
        };
        callers.iter().copied().zip(self.spec.waiting())
    }
}

impl Member {
    /// How whom a datagram socket was made along with is called, which has closed.
    pub(super) fn partner_name(&self) -> Option<&[u8]> {
        let name = match &self.link {
            Link::Closed(name) => name,
            _ => &self.spec.queue.packets.first()?.from,
        };
        Some(&name[..]).filter(|name| !name.is_empty())
    }
}

/// Whom a socket is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    None,
    /// To this one. If both sides of a connection know of it, the other says
    /// the same.
    Peer(FileId),
    /// To one that has closed, and had this address.
    Closed(Vec<u8>),
    /// It waits to be accepted by this one, which has it among those who wait.
    Waiting(FileId),
    /// To one that is not of the checkpoint, at this address.
    Outside(Vec<u8>),
    /// It listens, and these wait to be accepted: the first are those that its
    /// [`Spec::waiting`] tells of.
    Listening(Vec<Caller>),
}

/// Who waits to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Socket(FileId),
    /// One that has closed.
    Gone,
}

/// What is wrong with which socket.
type Wrong = (FileId, &'static str);

impl Set {
    /// Now all sockets are known.
    pub(super) fn complete(
        &self,
        specs: BTreeMap<FileId, Rc<Spec>>,
        outside: &BTreeMap<u32, Outside>,
    ) -> Result<(), Wrong> {
        let family = Family::new(specs, outside)?;
        // Nobody else sets it.
        let _ = self.family.set(family);
        Ok(())
    }

    fn family(&self) -> &Family {
        self.family.get().expect("set when all files were decoded")
    }

    /// A socket as it was made; all of them are made with the first.
    pub(super) fn take(&self, id: FileId) -> Result<OwnedFd> {
        let mut made = self.made.borrow_mut();
        let made = match &mut *made {
            Some(made) => made,
            none => none.insert(creation::create_all(self.family())?),
        };
        Ok(made.files.remove(&id).expect("every socket is made, and taken once"))
    }

    /// Fills all of them.
    pub(super) fn fill(
        &self,
        sockets: &BTreeMap<FileId, BorrowedFd<'_>>,
        cx: &FillCx<'_>,
    ) -> Result<()> {
        match &mut *self.made.borrow_mut() {
            Some(made) => filling::fill_all(self.family(), made, sockets, cx),
            None => Ok(()),
        }
    }

    /// What was made in directories is there to stay.
    pub(super) fn keep(&self) {
        if let Some(made) = &mut *self.made.borrow_mut() {
            made.paths.clear();
        }
    }
}

impl Family {
    fn new(
        specs: BTreeMap<FileId, Rc<Spec>>,
        outside: &BTreeMap<u32, Outside>,
    ) -> Result<Self, Wrong> {
        let mut by_inode = BTreeMap::new();
        for (&id, spec) in &specs {
            if by_inode.insert(spec.inode, id).is_some() {
                return Err((id, "another has its inode"));
            }
        }
        let listens = |id: &FileId| matches!(specs[id].connection, Connection::Listening(_));
        let mut links = BTreeMap::new();
        for (&id, spec) in &specs {
            let find =
                |inode: &u32| by_inode.get(inode).copied().ok_or((id, "its peer is not there"));
            let link = match &spec.connection {
                Connection::None => Link::None,
                Connection::Closed(name) => Link::Closed(name.clone()),
                Connection::Outside(outside) => Link::Outside(outside.name.clone()),
                Connection::Peer(inode) if outside.contains_key(inode) => {
                    Link::Outside(outside[inode].name.clone())
                }
                Connection::Peer(inode) | Connection::Waiting(inode) => {
                    let peer = find(inode)?;
                    if specs[&peer].kind != spec.kind {
                        return Err((id, "its peer is of another kind"));
                    }
                    // So CRIU has them, too.
                    if listens(&peer) { Link::Waiting(peer) } else { Link::Peer(peer) }
                }
                Connection::Listening(waiting) => {
                    let caller = |waiting: &Waiting| match &waiting.client {
                        Client::Socket(inode) => find(inode).map(Caller::Socket),
                        Client::Closed(_) => Ok(Caller::Gone),
                    };
                    Link::Listening(waiting.iter().map(caller).collect::<Result<_, _>>()?)
                }
            };
            links.insert(id, link);
        }
        queue_up(&mut links)?;
        let is_datagram = |id: &FileId| specs.get(id).is_some_and(|spec| !spec.kind.is_mutual());
        for (&id, spec) in &specs {
            let Queue { packets, told } = &spec.queue;
            let senders = packets.iter().filter_map(|packet| match packet.sender {
                Sender::Socket(sender) => Some(sender),
                Sender::Gone | Sender::Unknown => None,
            });
            if !senders.chain(told.iter().copied()).all(|sender| is_datagram(&sender)) {
                return Err((
                    id,
                    "who has sent something to it, or waits to, is no datagram socket",
                ));
            }
        }
        for (&id, link) in &links {
            let spec = &specs[&id];
            let mutual = spec.kind.is_mutual();
            match link {
                Link::Peer(peer) if mutual && links[peer] != Link::Peer(id) => {
                    return Err((id, "its peer is connected to somebody else"));
                }
                Link::Listening(_) if !spec.queue.packets.is_empty() => {
                    return Err((id, "it listens, and has something to read"));
                }
                Link::None | Link::Waiting(_) | Link::Outside(_)
                    if mutual && !spec.queue.packets.is_empty() =>
                {
                    return Err((id, "it is not connected, and has something to read"));
                }
                _ if spec.reset && !mutual && spec.address.is_none() => {
                    return Err((id, "it has an error to tell, and no name"));
                }
                _ if spec.reset && !mutual && !spec.queue.packets.is_empty() => {
                    return Err((id, "it has an error to tell, and something to read"));
                }
                _ => {}
            }
        }
        let member = |(id, spec)| {
            let link = links.remove(&id).expect("every socket has one");
            (id, Member { spec, link })
        };
        Ok(Self { sockets: specs.into_iter().map(member).collect() })
    }

    /// One of them.
    pub(super) fn get(&self, id: FileId) -> &Member {
        &self.sockets[&id]
    }

    /// Those that something is sent by to fill the queues of others, or may be.
    pub(super) fn senders(&self) -> BTreeSet<FileId> {
        let sends = |(&id, member): (&FileId, &Member)| {
            let Member { spec, link } = member;
            match link {
                _ if spec.kind == Kind::Datagram || spec.reset => Some(id),
                Link::Peer(peer) => {
                    let waits = &self.get(*peer).spec.queue.packets;
                    (!waits.is_empty()).then_some(id)
                }
                _ => None,
            }
        };
        let unaccepted = |member: &Member| {
            let sent = member.callers().filter(|(_, waiting)| !waiting.sent.is_empty());
            let socket = |(caller, _)| match caller {
                Caller::Socket(id) => Some(id),
                Caller::Gone => None,
            };
            sent.filter_map(socket).collect::<Vec<_>>()
        };
        let unaccepted = self.sockets.values().flat_map(unaccepted);
        self.sockets.iter().filter_map(sends).chain(unaccepted).collect()
    }

    /// Those of one kind.
    pub(super) fn of_kind(&self, datagram: bool) -> impl Iterator<Item = (FileId, &Member)> {
        self.sockets
            .iter()
            .filter(move |(_, member)| (member.spec.kind == Kind::Datagram) == datagram)
            .map(|(&id, member)| (id, member))
    }
}

/// Holds those who wait against those who listen: whoever is in a queue waits
/// for it, once, and whoever waits is in a queue, at its end if CRIU did not
/// say where.
fn queue_up(links: &mut BTreeMap<FileId, Link>) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for (&listener, link) in &*links {
        let Link::Listening(waiting) = link else { continue };
        for caller in waiting {
            let Caller::Socket(client) = *caller else { continue };
            if links[&client] != Link::Waiting(listener) || !seen.insert(client) {
                return Err((listener, "who waits there does not wait for it, once"));
            }
        }
    }
    let late: Vec<_> = links
        .iter()
        .filter_map(|(&client, link)| match link {
            Link::Waiting(listener) if !seen.contains(&client) => Some((client, *listener)),
            _ => None,
        })
        .collect();
    for (client, listener) in late {
        if let Some(Link::Listening(waiting)) = links.get_mut(&listener) {
            waiting.push(Caller::Socket(client));
        }
    }
    Ok(())
}
