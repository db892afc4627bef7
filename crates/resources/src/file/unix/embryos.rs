//! Connections that nobody has accepted: they have no descriptor yet, and can be asked for nothing.
//!
//! Kernel object: the `struct unix_sock` that `connect(2)` makes for the other side. It hangs on a packet in
//! the queue of the socket that listens, and has what was sent in a queue of its own.
//! Truth from: `unix_stream_connect`, `unix_release_sock` (`net/unix/af_unix.c`), `struct unix_skb_parms`,
//! `scm_fp_list`, `cred`, by the kernel's type information. Nothing but reading.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_kernel::NsPid;
use dormouse_kernel::socket::Credentials;
use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, Numbers, OpenError, OpenFiles, ReadError,
};

use crate::Result;
use crate::file::kernel_packets::{KernelPackets, Unread};
use crate::file::stand_in::Identity;
use crate::file::{FileId, Probe};
use crate::steady::steady;

/// A connection that waits to be accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Embryo {
    /// Who has connected, if that one has a number here.
    pub(super) by: Option<Identity>,
    /// The address of who has connected.
    pub(super) name: Vec<u8>,
    /// What that one has sent, first to be read first.
    pub(super) sent: Vec<Sent>,
}

/// What was sent at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    pub(super) credentials: Option<Credentials>,
    /// The `struct file` of each descriptor that came with it.
    pub(super) files: Vec<Address>,
    /// It was sent out of band.
    pub(super) urgent: bool,
}

/// Offsets in bytes.
#[derive(Clone, Copy)]
struct Layout {
    files: OpenFiles,
    numbers: Numbers,
    /// Of a `struct socket`, then of a `struct sock`.
    sock: usize,
    queue: usize,
    process: usize,
    identity: usize,
    /// Of a `struct unix_sock`.
    peer: usize,
    address: usize,
    urgent: Option<usize>,
    /// Of a `struct sk_buff`.
    owner: usize,
    sender: usize,
    user: usize,
    group: usize,
    rights: usize,
    /// Of a `struct scm_fp_list`.
    count: usize,
    first: usize,
    /// Of a `struct cred`, and what that leads to.
    effective_user: usize,
    effective_group: usize,
    groups: usize,
    groups_count: usize,
    groups_first: usize,
    /// Of a `struct unix_address`.
    name_len: usize,
    name: usize,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (sock, unix) = (btf.structure("sock")?, btf.structure("unix_sock")?);
        let packet = btf.structure("sk_buff")?;
        let (control, sender) = (packet.offset("cb")?, btf.structure("unix_skb_parms")?);
        let (rights, cred) = (btf.structure("scm_fp_list")?, btf.structure("cred")?);
        let (groups, name) = (btf.structure("group_info")?, btf.structure("unix_address")?);
        Ok(Self {
            files: OpenFiles::new(btf)?,
            numbers: Numbers::new(btf)?,
            sock: btf.structure("socket")?.offset("sk")?,
            queue: sock.offset("sk_receive_queue")?,
            process: sock.offset("sk_peer_pid")?,
            identity: sock.offset("sk_peer_cred")?,
            peer: unix.offset("peer")?,
            address: unix.offset("addr")?,
            urgent: unix.offset("oob_skb").ok(),
            owner: packet.offset("sk")?,
            sender: control + sender.offset("pid")?,
            user: control + sender.offset("uid")?,
            group: control + sender.offset("gid")?,
            rights: control + sender.offset("fp")?,
            count: rights.offset("count")?,
            first: rights.offset("fp")?,
            effective_user: cred.offset("euid")?,
            effective_group: cred.offset("egid")?,
            groups: cred.offset("group_info")?,
            groups_count: groups.offset("ngroups")?,
            groups_first: groups.offset("gid")?,
            name_len: name.offset("len")?,
            name: name.offset("name")?,
        })
    }
}

/// What reads them.
pub(super) struct Embryos {
    memory: KernelMemory,
    packets: KernelPackets,
    layout: Layout,
}

/// More connections, or packets, than any queue holds.
const MOST: usize = 1 << 22;

impl Embryos {
    pub(super) fn open() -> Result<Self, OpenError> {
        let (memory, ()) = KernelMemory::open(|_| Ok(()))?;
        let (packets, layout) = KernelPackets::open(Layout::new)?;
        Ok(Self { memory, packets, layout })
    }

    /// Those that wait for a listener to accept them, the first to be accepted first; or why they were
    /// not read.
    pub(super) fn of(&mut self, listener: BorrowedFd<'_>) -> Result<Vec<Embryo>, &'static str> {
        let found = steady(|| match self.try_of(listener) {
            Ok(embryos) => Ok(Ok(embryos)),
            Err(Unread::Read(error)) => Err(error),
            Err(Unread::Device) => Ok(Err(
                "what was sent before a connection was accepted is in the memory of a device",
            )),
            Err(Unread::Nowhere) => Ok(Err(
                "what was sent before a connection was accepted is where this kernel's memory cannot be read",
            )),
        });
        match found {
            Ok(Some(embryos)) => embryos,
            Ok(None) => Err("connections wait to be accepted, and do not stand still"),
            Err(_) => {
                Err("connections wait to be accepted, and the kernel's memory cannot be read")
            }
        }
    }

    fn try_of(&mut self, listener: BorrowedFd<'_>) -> Result<Vec<Embryo>, Unread> {
        let Layout { sock, queue, owner, .. } = self.layout;
        let socket = self.layout.files.private_data(&mut self.memory, &[listener])?[0];
        let sock = self.memory.word(socket + sock as u64)?;
        let calls = self.memory.links(sock + queue as u64, MOST)?;
        let socks = self.memory.words_behind(&calls, owner)?;
        socks.into_iter().map(|sock| self.embryo(sock)).collect()
    }

    fn embryo(&mut self, sock: Address) -> Result<Embryo, Unread> {
        let Layout { queue, process, identity, peer, urgent, .. } = self.layout;
        let [process, identity, peer] = [process, identity, peer].map(|at| sock + at as u64);
        let (process, identity) = (self.memory.word(process)?, self.memory.word(identity)?);
        let by = self.identity(process, identity)?;
        let peer = self.memory.word(peer)?;
        let name = self.name(peer)?;
        let urgent = match urgent {
            Some(at) => self.memory.word(sock + at as u64)?,
            None => 0,
        };
        let mut sent = Vec::new();
        for packet in self.memory.links(sock + queue as u64, MOST)? {
            sent.push(self.sent(packet, packet == urgent)?);
        }
        Ok(Embryo { by, name, sent })
    }

    /// A process and its credentials, as `SO_PEERCRED` and `SO_PEERGROUPS` tell them: whoever may read the
    /// kernel's memory is in the first user namespace, whose numbers are the kernel's own.
    fn identity(&mut self, pid: Address, cred: Address) -> Result<Option<Identity>, ReadError> {
        // NGROUPS_MAX.
        const MOST: usize = 65536;
        let Layout { effective_user, effective_group, groups, .. } = self.layout;
        let Layout { groups_count, groups_first, .. } = self.layout;
        let memory = &mut self.memory;
        if pid == 0 || cred == 0 {
            return Ok(None);
        }
        let number = self.layout.numbers.seen(memory, pid)?;
        let Some(pid) = number.and_then(NsPid::from_raw) else { return Ok(None) };
        let uid = memory.word(cred + effective_user as u64)? as u32;
        let gid = memory.word(cred + effective_group as u64)? as u32;
        let list = memory.word(cred + groups as u64)?;
        let count = memory.word(list + groups_count as u64)? as u32 as usize;
        if count > MOST {
            return Err(ReadError::Fault);
        }
        let bytes = memory.bytes(list + groups_first as u64, 4 * count)?;
        let groups = bytes.as_chunks().0.iter().map(|&group| u32::from_ne_bytes(group)).collect();
        Ok(Some(Identity { pid, uid, gid, groups }))
    }

    /// The address of a `struct unix_sock`, as `getpeername(2)` tells it.
    fn name(&mut self, sock: Address) -> Result<Vec<u8>, ReadError> {
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

    fn sent(&mut self, packet: Address, urgent: bool) -> Result<Sent, Unread> {
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
        Ok(Sent { bytes, credentials, files, urgent })
    }

    /// The files of the tree, by where the kernel has them.
    ///
    /// # Errors
    /// A descriptor cannot be had.
    pub(super) fn files_of<'a>(
        &mut self,
        probes: impl Iterator<Item = &'a Probe>,
    ) -> Result<BTreeMap<Address, FileId>> {
        /// As many as are open at once.
        const SOME: usize = 256;
        let probes: Vec<_> = probes.collect();
        let mut found = BTreeMap::new();
        for some in probes.chunks(SOME) {
            let files: Vec<OwnedFd> =
                some.iter().map(|probe| probe.duplicate()).collect::<Result<_>>()?;
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let at = self.layout.files.of(&mut self.memory, &files);
            let at = at.map_err(crate::Error::KernelFiles)?;
            found.extend(at.into_iter().zip(some.iter().map(|probe| probe.id)));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use dormouse_kernel::NsPid;

    use super::{Embryo, Embryos};

    #[test]
    fn what_was_sent_before_a_connection_was_accepted_is_read() {
        let name = format!("dormouse-embryos-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let mut embryos = Embryos::open().unwrap();
        assert_eq!(embryos.of(listener.as_fd()), Ok(Vec::new()));
        let long: Vec<u8> = (0..100_000).map(|at| at as u8).collect();
        for sent in [&[&b"one"[..], b"two"][..], &[&long], &[]] {
            let mut client = UnixStream::connect_addr(&address).unwrap();
            for bytes in sent {
                client.write_all(bytes).unwrap();
            }
        }
        let found = embryos.of(listener.as_fd()).unwrap();
        let own = NsPid::from_raw(std::process::id().cast_signed());
        let by = |embryo: &Embryo| embryo.by.as_ref().map(|by| by.pid);
        assert!(found.iter().all(|embryo| by(embryo) == own && embryo.name.is_empty()));
        let bytes = |embryo: &Embryo| -> Vec<Vec<u8>> {
            embryo.sent.iter().map(|sent| sent.bytes.clone()).collect()
        };
        assert_eq!(bytes(&found[0]), [b"one", b"two"]);
        assert_eq!(bytes(&found[1]).concat(), long);
        assert_eq!(bytes(&found[2]), Vec::<Vec<u8>>::new());
    }
}
