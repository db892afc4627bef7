//! What the kernel lists of all sockets at once, and what a new one is like.

use std::collections::{BTreeMap, btree_map::Entry};
use std::os::fd::{BorrowedFd, OwnedFd};

use dormouse_kernel::Errno;
use dormouse_kernel::sock_diag::{InetDiag, SockDiag};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use super::inside::{Inside, InsideError};
use super::memberships::Groups;
use super::options::Kind;
use crate::file::likeness::{Alike, Known, Model};
use crate::file::listed::Listed;
use crate::file::{FileId, Probe};
use crate::{Error, Result};

/// Makes a socket of the kind.
pub(super) fn make(kind: Kind) -> Result<OwnedFd, Errno> {
    let family = AddressFamily::from_raw(kind.family as u16);
    let protocol = u32::try_from(kind.protocol).ok().and_then(std::num::NonZeroU32::new);
    let type_ = SocketType::from_raw(kind.kind.cast_unsigned());
    socket_with(family, type_, SocketFlags::CLOEXEC, protocol.map(Protocol::from_raw))
}

/// What the sockets of a dump share.
#[derive(Default)]
pub(super) struct Listing {
    listed: BTreeMap<(i32, i32), Listed<InetDiag>>,
    models: BTreeMap<Kind, Model>,
    /// Multicast groups there are.
    pub(super) groups: Groups,
    inside: Option<Inside>,
    multicast_interfaces: Option<BTreeMap<FileId, u32>>,
}

impl Listing {
    /// What `sock_diag` says of a socket, if it lists it.
    pub(super) fn of(&mut self, kind: Kind, inode: u32) -> Result<Option<InetDiag>> {
        if kind.is_raw() || !(kind.is_stream() || kind.is_udp()) {
            return Ok(None);
        }
        let listed = self.listed.entry((kind.family, kind.protocol)).or_default();
        let list = |diag: &SockDiag| diag.inet(kind.family, kind.protocol);
        listed.of(inode, list, |listed| listed.inode)
    }

    /// Has sockets be listed anew when the next is asked for.
    pub(super) fn forget(&mut self) {
        self.listed.clear();
    }

    /// A new socket of the kind.
    fn model(&mut self, kind: Kind) -> Result<&Model> {
        match self.models.entry(kind) {
            Entry::Occupied(model) => Ok(model.into_mut()),
            Entry::Vacant(place) => {
                let socket = make(kind).map_err(Error::kernel("socket", "a new socket"))?;
                Ok(place.insert(Model::new(socket)))
            }
        }
    }

    /// The options of a socket, and of a new one. `alike` says which are the same
    /// in both, if that is known.
    pub(super) fn options<'a>(
        &'a mut self,
        (socket, kind): (BorrowedFd<'a>, Kind),
        alike: Option<&'a Alike>,
    ) -> Result<(Known<'a, BorrowedFd<'a>>, &'a Model)> {
        self.model(kind)?;
        let model = &self.models[&kind];
        let places = self.inside.as_ref().map(Inside::places);
        Ok((Known { socket, model, alike: places.zip(alike) }, model))
    }

    /// Which options of connections of a kind are those of a new socket.
    pub(super) fn alike(&mut self, sockets: &[BorrowedFd<'_>], kind: Kind) -> Result<Vec<Alike>> {
        self.inside().map_err(Error::InetReader)?;
        self.model(kind)?;
        let Self { inside: Some(inside), models, .. } = self else {
            return Ok(Vec::new());
        };
        inside.alike(sockets, &models[&kind], kind).map_err(Error::InetReader)
    }

    /// What looks into sockets.
    pub(super) fn inside(&mut self) -> Result<&mut Inside, InsideError> {
        match &mut self.inside {
            Some(inside) => Ok(inside),
            none => Ok(none.insert(Inside::open()?)),
        }
    }

    /// Whether the port that a TCP socket tells is its own.
    pub(super) fn holds_port(&mut self, socket: BorrowedFd<'_>) -> Result<bool> {
        self.inside().and_then(|inside| inside.holds_port(socket)).map_err(Error::InetReader)
    }

    /// Whether a socket holds back a datagram that the program goes on writing.
    pub(super) fn holds_back(&mut self, socket: BorrowedFd<'_>) -> Result<bool> {
        self.inside().and_then(|inside| inside.holds_back(socket)).map_err(Error::InetReader)
    }

    /// The interface that a socket of IPv4 sends to groups by, if it was told
    /// one. All sockets are looked at with the first.
    pub(super) fn multicast_interface(
        &mut self,
        id: FileId,
        probes: &BTreeMap<FileId, Probe>,
    ) -> Result<Option<u32>> {
        let known = match &self.multicast_interfaces {
            Some(known) => known,
            None => {
                let inside = self.inside().map_err(Error::InetReader)?;
                let all = inside.multicast_interfaces(probes.values())?;
                self.multicast_interfaces.insert(all.map_err(Error::InetReader)?)
            }
        };
        Ok(known.get(&id).copied())
    }
}
