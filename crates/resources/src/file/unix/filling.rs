//! Fills queues, and does what would have been in the way of that.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use dormouse_kernel::socket::{Credentials, Outgoing, SocketOption, UnixAddress};
use dormouse_kernel::{Errno, NsPid};
use rustix::net::{RecvFlags, accept, recv, shutdown};

use super::address::reach;
use super::creation::Made;
use super::datagrams::await_room;
use super::delivery::Stranger;
use super::queue::Packet;
use super::set::{Caller, Family, Link, Member};
use crate::file::socket_options::Now;
use crate::file::stand_in::{Identity, StandIn};
use crate::file::{FileId, FileRef, FillCx};
use crate::{Error, Result};

type Sockets<'a> = BTreeMap<FileId, BorrowedFd<'a>>;

pub(super) struct Filler<'a> {
    pub(super) family: &'a Family,
    pub(super) made: &'a Made,
    pub(super) sockets: &'a Sockets<'a>,
    cx: &'a FillCx<'a>,
    /// Datagram sockets of the checkpoint, by address.
    pub(super) by_name: BTreeMap<&'a [u8], FileId>,
    /// Others that have sent something, by address.
    pub(super) strangers: BTreeMap<&'a [u8], Stranger>,
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
    filler.deliver()?;
    for (id, _) in family.of_kind(false) {
        filler.fill(id)?;
    }
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
    // Whoever waits for a full one is told in the order in which they began to.
    let told = family.sockets.values().flat_map(|member| &member.spec.queue.told);
    told.into_iter().try_for_each(|sender| await_room(sockets[sender]))
}

impl<'a> Filler<'a> {
    /// How a socket is called by those who send to it.
    pub(super) fn reach(&self, id: FileId) -> Option<UnixAddress> {
        let address = self.family.get(id).spec.address.as_ref()?;
        Some(reach(address, self.made.inodes.get(&id)))
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

    /// Has a stream, or the like, be sent what it has to read.
    fn fill(&self, id: FileId) -> Result<()> {
        self.fill_unaccepted(id)?;
        for packet in &self.family.get(id).spec.queue.packets {
            let nobody = || Error::kernel("sendmsg", "a unix socket")(Errno::NOTCONN);
            self.send(self.other_side(id).ok_or_else(nobody)?, packet, None)?;
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

    /// Sends a packet, in the name of whoever did.
    pub(super) fn send(
        &self,
        sender: BorrowedFd<'_>,
        packet: &Packet,
        to: Option<&UnixAddress>,
    ) -> Result<()> {
        let failed = || Error::kernel("sendmsg", "a unix socket");
        let Packet { bytes, rights, from: _, credentials, urgent, read, sender: _ } = packet;
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
        for (id, member) in self.family.of_kind(false) {
            if member.spec.reset && self.made.ghosts.contains_key(&id) {
                Outgoing { bytes: &[0], ..Outgoing::default() }
                    .send(self.sockets[&id])
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
