//! Connections that nobody has accepted: they have no descriptor yet, and can be asked for nothing.
//!
//! Kernel object: the `struct unix_sock` that `connect(2)` makes for the other side. It hangs on a packet in
//! the queue of the socket that listens, and has what was sent in a queue of its own.
//! Truth from: `unix_stream_connect`, `unix_release_sock` (`net/unix/af_unix.c`), `struct cred`, by the kernel's type information. Nothing but reading.

use std::os::fd::BorrowedFd;

use dormouse_kernel::NsPid;
use epoll_interest::kernel_memory::{Address, Btf, BtfError, OpenError, ReadError};

use super::inside::{Inside, Sent};
use crate::Result;
use crate::file::kernel_packets::Unread;
use crate::file::stand_in::Identity;
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

/// Offsets in bytes.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Of a `struct sock`, then of a `struct unix_sock`.
    process: usize,
    identity: usize,
    peer: usize,
    /// Of a `struct cred`, and what that leads to.
    effective_user: usize,
    effective_group: usize,
    groups: usize,
    groups_count: usize,
    groups_first: usize,
}

impl Layout {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let (sock, unix) = (btf.structure("sock")?, btf.structure("unix_sock")?);
        let (cred, groups) = (btf.structure("cred")?, btf.structure("group_info")?);
        Ok(Self {
            process: sock.offset("sk_peer_pid")?,
            identity: sock.offset("sk_peer_cred")?,
            peer: unix.offset("peer")?,
            effective_user: cred.offset("euid")?,
            effective_group: cred.offset("egid")?,
            groups: cred.offset("group_info")?,
            groups_count: groups.offset("ngroups")?,
            groups_first: groups.offset("gid")?,
        })
    }
}

/// What reads them.
pub(super) struct Embryos {
    pub(super) inside: Inside,
    layout: Layout,
}

impl Embryos {
    pub(super) fn open() -> Result<Self, OpenError> {
        let (inside, layout) = Inside::open(Layout::new)?;
        Ok(Self { inside, layout })
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
        let sock = self.inside.socks(&[listener])?[0];
        let calls = self.inside.queue(sock)?;
        calls.map(|(_, sock)| self.embryo(sock)).collect()
    }

    fn embryo(&mut self, sock: Address) -> Result<Embryo, Unread> {
        let Layout { process, identity, peer, .. } = self.layout;
        let [process, identity, peer] = [process, identity, peer].map(|at| sock + at as u64);
        let memory = &mut self.inside.memory;
        let (process, identity, peer) =
            (memory.word(process)?, memory.word(identity)?, memory.word(peer)?);
        let by = self.identity(process, identity)?;
        Ok(Embryo { by, name: self.inside.name(peer)?, sent: self.inside.sent(sock)? })
    }

    /// A process and its credentials, as `SO_PEERCRED` and `SO_PEERGROUPS` tell them: whoever may read the
    /// kernel's memory is in the first user namespace, whose numbers are the kernel's own.
    fn identity(&mut self, pid: Address, cred: Address) -> Result<Option<Identity>, ReadError> {
        // NGROUPS_MAX.
        const MOST: usize = 65536;
        let Layout { effective_user, effective_group, groups, .. } = self.layout;
        let Layout { groups_count, groups_first, .. } = self.layout;
        let numbers = self.inside.numbers();
        let memory = &mut self.inside.memory;
        if pid == 0 || cred == 0 {
            return Ok(None);
        }
        let number = numbers.seen(memory, pid)?;
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
