//! Unix sockets as the kernel's own memory has them.
//!
//! Kernel object: `struct unix_sock`, and the packets in its queue.
//! Truth from: `struct unix_skb_parms`, `scm_fp_list`, `unix_address`, `sk_buff.sk` (who sent it: charged with
//! it until it is read, so nobody else is there meanwhile), by the kernel's type information. Nothing but
//! reading.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_kernel::socket::Credentials;
use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, Numbers, OpenError, OpenFiles, ReadError,
};

use crate::file::kernel_packets::{KernelPackets, Unread};
use crate::file::{FileId, Probe};
use crate::{Error, Result};

/// What was sent at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    pub(super) credentials: Option<Credentials>,
    /// The `struct file` of each descriptor that came with it.
    pub(super) files: Vec<Address>,
    /// It was sent out of band.
    pub(super) urgent: bool,
    /// The `struct sock` of who sent it.
    pub(super) by: Address,
}

/// Offsets in bytes.
#[derive(Clone, Copy)]
struct Layout {
    files: OpenFiles,
    numbers: Numbers,
    /// Of a `struct socket`, then of a `struct sock`.
    sock: usize,
    queue: usize,
    /// Of a `struct unix_sock`.
    address: usize,
    urgent: Option<usize>,
    /// Where those wait who want to send, and where it waits itself: lists.
    waiting: usize,
    waits: usize,
    /// Of a `struct sk_buff`.
    owner: usize,
    sender: usize,
    user: usize,
    group: usize,
    rights: usize,
    /// Of a `struct scm_fp_list`.
    count: usize,
    first: usize,
    /// Of a `struct unix_address`.
    name_len: usize,
    name: usize,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let unix = btf.structure("unix_sock")?;
        let packet = btf.structure("sk_buff")?;
        let (control, sender) = (packet.offset("cb")?, btf.structure("unix_skb_parms")?);
        let (rights, name) = (btf.structure("scm_fp_list")?, btf.structure("unix_address")?);
        let head = btf.structure("wait_queue_head")?.offset("head")?;
        let entry = btf.structure("wait_queue_entry")?.offset("entry")?;
        Ok(Self {
            files: OpenFiles::new(btf)?,
            numbers: Numbers::new(btf)?,
            sock: btf.structure("socket")?.offset("sk")?,
            queue: btf.structure("sock")?.offset("sk_receive_queue")?,
            address: unix.offset("addr")?,
            urgent: unix.offset("oob_skb").ok(),
            waiting: unix.offset("peer_wq")? + btf.structure("socket_wq")?.offset("wait")? + head,
            waits: unix.offset("peer_wake")? + entry,
            owner: packet.offset("sk")?,
            sender: control + sender.offset("pid")?,
            user: control + sender.offset("uid")?,
            group: control + sender.offset("gid")?,
            rights: control + sender.offset("fp")?,
            count: rights.offset("count")?,
            first: rights.offset("fp")?,
            name_len: name.offset("len")?,
            name: name.offset("name")?,
        })
    }
}

/// What reads them.
pub(super) struct Inside {
    pub(super) memory: KernelMemory,
    packets: KernelPackets,
    layout: Layout,
}

/// More connections, packets, or sockets that wait, than any queue holds.
const MOST: usize = 1 << 22;

impl Inside {
    /// Has `layout` find where other things are.
    pub(super) fn open<L>(
        layout: impl FnOnce(&Btf<'_>) -> Result<L, BtfError>,
    ) -> Result<(Self, L), OpenError> {
        let (memory, ()) = KernelMemory::open(|_| Ok(()))?;
        let (packets, (layout, other)) =
            KernelPackets::open(|btf| Ok((Layout::new(btf)?, layout(btf)?)))?;
        Ok((Self { memory, packets, layout }, other))
    }

    /// The `struct sock` of each of some sockets of this process.
    pub(super) fn socks(&mut self, sockets: &[BorrowedFd<'_>]) -> Result<Vec<Address>, ReadError> {
        let sockets = self.layout.files.private_data(&mut self.memory, sockets)?;
        self.memory.words_behind(&sockets, self.layout.sock)
    }

    /// The packets in the queue of a socket, and who sent each.
    pub(super) fn queue(
        &mut self,
        sock: Address,
    ) -> Result<impl Iterator<Item = (Address, Address)> + use<>, ReadError> {
        let Layout { queue, owner, .. } = self.layout;
        let packets = self.memory.links(sock + queue as u64, MOST)?;
        let owners = self.memory.words_behind(&packets, owner)?;
        Ok(packets.into_iter().zip(owners))
    }

    /// What is in the queue of a socket, first to be read first.
    pub(super) fn sent(&mut self, sock: Address) -> Result<Vec<Sent>, Unread> {
        let urgent = match self.layout.urgent {
            Some(at) => self.memory.word(sock + at as u64)?,
            None => 0,
        };
        let packets = self.queue(sock)?;
        packets.map(|packet| self.packet(packet, urgent)).collect()
    }

    fn packet(
        &mut self,
        (packet, by): (Address, Address),
        urgent: Address,
    ) -> Result<Sent, Unread> {
        // SCM_MAX_FD.
        const MOST: usize = 253;
        let Layout { sender, user, group, rights, count, first, .. } = self.layout;
        let memory = &mut self.memory;
        let at = [sender, user, group, rights].map(|at| packet + at as u64);
        let [sender, user, group, rights] = *memory.words(&at)? else {
            return Err(ReadError::Fault.into());
        };
        let credentials = match sender {
            0 => None,
            sender => Some(Credentials {
                pid: self.layout.numbers.seen(memory, sender)?.unwrap_or(0),
                uid: user as u32,
                gid: group as u32,
            }),
        };
        let files = match rights {
            0 => Vec::new(),
            list => {
                let count = usize::from(memory.word(list + count as u64)? as u16);
                if count > MOST {
                    return Err(ReadError::Fault.into());
                }
                let bytes = memory.bytes(list + first as u64, 8 * count)?;
                bytes.as_chunks().0.iter().map(|&file| u64::from_ne_bytes(file)).collect()
            }
        };
        let bytes = self.packets.contents(memory, packet)?;
        Ok(Sent { bytes, credentials, files, urgent: packet == urgent, by })
    }

    /// The address of a socket, as `getpeername(2)` tells it.
    pub(super) fn name(&mut self, sock: Address) -> Result<Vec<u8>, ReadError> {
        // struct sockaddr_un, and its family.
        const LONGEST: usize = 110;
        const FAMILY: usize = 2;
        let Layout { address, name_len, name, .. } = self.layout;
        if sock == 0 {
            return Ok(Vec::new());
        }
        let at = self.memory.word(sock + address as u64)?;
        if at == 0 {
            return Ok(Vec::new());
        }
        let len = self.memory.word(at + name_len as u64)? as u32 as usize;
        if !(FAMILY..=LONGEST).contains(&len) {
            return Err(ReadError::Fault);
        }
        self.memory.bytes(at + (name + FAMILY) as u64, len - FAMILY)
    }

    /// The sockets that are told when a socket of datagrams, connected to by them, can be sent to again,
    /// the first to be told first; among them others that are none: tasks that wait to send.
    pub(super) fn told(&mut self, sock: Address) -> Result<Vec<Address>, ReadError> {
        let Layout { waiting, waits, .. } = self.layout;
        let links = self.memory.links(sock + waiting as u64, MOST)?;
        Ok(links.into_iter().filter_map(|link| link.checked_sub(waits as u64)).collect())
    }

    /// How to find a process by its `struct pid`.
    pub(super) fn numbers(&self) -> Numbers {
        self.layout.numbers
    }

    /// The files of the tree, by where the kernel has them.
    ///
    /// # Errors
    /// A descriptor cannot be had.
    pub(super) fn files_of<'a>(
        &mut self,
        probes: impl Iterator<Item = &'a Probe>,
    ) -> Result<BTreeMap<Address, FileId>> {
        self.find(probes, |inside, files| inside.layout.files.of(&mut inside.memory, files))
    }

    /// Sockets of the tree, by where the kernel has them.
    ///
    /// # Errors
    /// As [`Self::files_of`].
    pub(super) fn socks_of<'a>(
        &mut self,
        probes: impl Iterator<Item = &'a Probe>,
    ) -> Result<BTreeMap<Address, FileId>> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            probes.partition(|probe| probe.socket.is_some_and(|socket| socket.sock != 0));
        let mut found = self.find(unknown.into_iter(), Self::socks)?;
        found.extend(known.iter().filter_map(|probe| Some((probe.socket?.sock, probe.id))));
        Ok(found)
    }

    fn find<'a>(
        &mut self,
        probes: impl Iterator<Item = &'a Probe>,
        mut place: impl FnMut(&mut Self, &[BorrowedFd<'_>]) -> Result<Vec<Address>, ReadError>,
    ) -> Result<BTreeMap<Address, FileId>> {
        /// As many as are open at once.
        const SOME: usize = 256;
        let probes: Vec<_> = probes.collect();
        let mut found = BTreeMap::new();
        for some in probes.chunks(SOME) {
            let files: Vec<OwnedFd> =
                some.iter().map(|probe| probe.duplicate()).collect::<Result<_>>()?;
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let at = place(self, &files).map_err(Error::KernelFiles)?;
            found.extend(at.into_iter().zip(some.iter().map(|probe| probe.id)));
        }
        Ok(found)
    }
}
