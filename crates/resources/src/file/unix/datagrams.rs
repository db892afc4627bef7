//! What waits in sockets of datagrams, read without looking into their queues.
//!
//! Whoever looks into such a queue, by `MSG_PEEK`, wakes those who wait to send more to it
//! (`__unix_dgram_recvmsg`): they find it as full as before, and wait again, but in another order, and epolls
//! report once more what else they wait for. So all is read from the kernel's memory. Only descriptors that
//! are in flight and nowhere else have to be looked for; then those who wait are put in order again.
//!
//! Truth from: [`super::inside`].

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use epoll_interest::kernel_memory::Address;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::inside::{Inside, Sent};
use super::queue::{Packet, Queue, Sender};
use crate::file::FileId;
use crate::file::kernel_packets::Unread;
use crate::steady::steady;
use crate::{Error, Result};

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Datagrams {
    /// First to be read first.
    sent: Vec<Sent>,
    /// How each sender is called.
    names: BTreeMap<Address, Vec<u8>>,
    /// Who is told when more can be sent, first to be told first.
    told: Vec<Address>,
}

impl Datagrams {
    /// Reads it; `None`: that cannot be done, or it does not stand still.
    pub(super) fn read(inside: &mut Inside, socket: BorrowedFd<'_>) -> Option<Self> {
        let read = steady(|| match Self::try_read(inside, socket) {
            Ok(read) => Ok(Some(read)),
            Err(Unread::Read(error)) => Err(error),
            Err(Unread::Device | Unread::Nowhere) => Ok(None),
        });
        read.ok().flatten().flatten()
    }

    fn try_read(inside: &mut Inside, socket: BorrowedFd<'_>) -> Result<Self, Unread> {
        let sock = inside.socks(&[socket])?[0];
        let (sent, told) = (inside.sent(sock)?, inside.told(sock)?);
        let mut names = BTreeMap::new();
        for Sent { by, .. } in &sent {
            if !names.contains_key(by) {
                names.insert(*by, inside.name(*by)?);
            }
        }
        Ok(Self { sent, names, told })
    }

    /// Whether descriptors come with it.
    pub(super) fn has_files(&self) -> bool {
        self.sent.iter().any(|sent| !sent.files.is_empty())
    }

    /// All of it, if the descriptors that come with it are among `known` ones.
    pub(super) fn packets(&self, known: &BTreeMap<Address, FileId>) -> Option<Vec<Packet>> {
        let packets = self.sent.iter().map(|Sent { bytes, credentials, files, by, .. }| {
            let rights = files.iter().map(|file| known.get(file).copied());
            Some(Packet {
                bytes: bytes.clone(),
                rights: rights.collect::<Option<_>>()?,
                from: self.names[by].clone(),
                credentials: *credentials,
                ..Packet::default()
            })
        });
        packets.collect()
    }

    /// Who waits to send more, who began first first, as far as they are among these sockets.
    pub(super) fn told(&self, sockets: &BTreeMap<Address, FileId>) -> Vec<FileId> {
        self.told.iter().rev().filter_map(|at| sockets.get(at).copied()).collect()
    }

    /// Says of what was read, in this or another way, who sent it, and of who is told, which sockets those
    /// are: `sockets` are all those of the checkpoint.
    pub(super) fn attribute(&self, queue: &mut Queue, sockets: &BTreeMap<Address, FileId>) {
        for (packet, sent) in queue.packets.iter_mut().zip(&self.sent) {
            // Somebody outside may read, or send, meanwhile.
            if packet.bytes != sent.bytes || packet.from != self.names[&sent.by] {
                return;
            }
            // The receiver may not have asked for them yet.
            packet.credentials = sent.credentials;
            packet.sender = sockets.get(&sent.by).map_or(Sender::Gone, |&id| Sender::Socket(id));
        }
        queue.told = self.told(sockets);
    }
}

/// Has a socket be told when its peer, if that is full, can be sent to again, unless it is told already: before
/// all that are.
pub(super) fn await_room(socket: BorrowedFd<'_>) -> Result<()> {
    let mut asks = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asks, Some(&now)).map(drop).map_err(Error::kernel("poll", "a unix socket"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn who_sent_what_waits_and_who_waits_to_send_is_read() {
        let (mut inside, ()) = Inside::open(|_| Ok(())).unwrap();
        let name = format!("dormouse-datagrams-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        let senders: Vec<_> = (0..4).map(|_| UnixDatagram::unbound().unwrap()).collect();
        let mut sent = Vec::new();
        for sender in &senders {
            sender.set_nonblocking(true).unwrap();
            sender.connect_addr(&address).unwrap();
        }
        for (number, sender) in senders.iter().cycle().enumerate() {
            let bytes = vec![number as u8; 1000 * number];
            match sender.send(&bytes) {
                Ok(_) => sent.push(bytes),
                Err(_) => break,
            }
        }
        let waits = [2, 0, 3];
        for at in waits {
            poll(&mut [PollFd::new(&senders[at], PollFlags::OUT)], Some(&Default::default()))
                .unwrap();
        }
        let files: Vec<_> = senders.iter().map(|sender| sender.as_fd()).collect();
        let socks = inside.socks(&files).unwrap();
        let ids = socks.iter().zip(1..).map(|(&at, id)| (at, FileId::from_raw(id)));
        let read = Datagrams::read(&mut inside, receiver.as_fd()).unwrap();
        let mut queue =
            Queue { packets: read.packets(&BTreeMap::new()).unwrap(), told: Vec::new() };
        read.attribute(&mut queue, &ids.collect());
        let found = queue.packets.iter().map(|packet| packet.bytes.clone());
        assert!(found.eq(sent.clone()), "what was sent");
        let by = |number: usize| Sender::Socket(FileId::from_raw(number as u32 % 4 + 1));
        let by: Vec<_> = (0..sent.len()).map(by).collect();
        assert_eq!(queue.packets.iter().map(|packet| packet.sender).collect::<Vec<_>>(), by);
        // The one that could not send waits since then.
        let last = sent.len() % 4;
        let waits = [last].into_iter().chain(waits.into_iter().filter(|&at| at != last));
        assert_eq!(queue.told, waits.map(|at| FileId::from_raw(at as u32 + 1)).collect::<Vec<_>>());
    }
}
