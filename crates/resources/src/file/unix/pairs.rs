//! Which sockets of datagrams are made by `socketpair(2)`.

use std::collections::BTreeMap;

use super::creation::{Maker, Pair, Side};
use super::queue::Sender;
use super::set::{Family, Link};
use super::spec::Kind;
use crate::file::FileId;

impl Maker<'_> {
    /// Which datagram sockets are made in pairs.
    pub(super) fn plan_datagrams(&mut self) {
        let family = self.family;
        let partners = partners(family);
        for (id, member) in family.of_kind(true) {
            let partner = partners.get(&id).copied();
            // It has left nothing here but its name, and what it has sent to one that has none itself.
            let ghost = match &member.link {
                Link::Closed(name) if name.is_empty() => true,
                Link::Closed(_) | Link::None => {
                    member.spec.address.is_none() && !member.spec.queue.packets.is_empty()
                }
                _ => false,
            };
            let other = match partner {
                Some(partner) if partner < id => continue,
                Some(partner) => Some(Side::Socket(partner)),
                None if ghost => Some(Side::Ghost(id)),
                None if member.spec.peer.is_some() => None,
                None => continue,
            };
            self.made.paired.insert(id, partner);
            if let Some(partner) = partner {
                self.made.paired.insert(partner, Some(id));
            }
            let by = member.spec.peer.as_ref();
            let sides = [Some(Side::Socket(id)), other];
            self.pairs.push(Pair { kind: Kind::Datagram, by, sides });
        }
    }
}

/// Which datagram sockets were made along with each other, as far as that shows.
fn partners(family: &Family) -> BTreeMap<FileId, FileId> {
    let mut partners = BTreeMap::new();
    for (id, member) in family.of_kind(true) {
        let is_nameless = |id: FileId| family.get(id).spec.address.is_none();
        let linked = match member.link {
            Link::Peer(peer) if peer != id => Some(peer).filter(|&peer| {
                let theirs = family.get(peer);
                let made_together = theirs.link == Link::Peer(id)
                    && member.spec.peer.is_some()
                    && member.spec.peer == theirs.spec.peer;
                is_nameless(peer) || made_together
            }),
            _ => None,
        };
        // Nobody else can send to who has no name.
        let heard = member.spec.queue.packets.first().and_then(|packet| match packet.sender {
            Sender::Socket(sender) if sender != id && is_nameless(id) => Some(sender),
            _ => None,
        });
        if let Some(other) = linked.or(heard)
            && !partners.contains_key(&id)
            && !partners.contains_key(&other)
        {
            partners.insert(id, other);
            partners.insert(other, id);
        }
    }
    partners
}
