//! What can be learned of all sockets at once, and what is in their queues.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use dormouse_kernel::sock_diag::{SockDiag, UnixDiag};

use super::queue::Queue;
use crate::file::{FileId, Probe, SocketFamily};
use crate::{Error, Result};

/// The unix sockets of a dump, and the descriptors in flight through them.
///
/// Sockets are listed once for all. A queue is read once, when its socket is
/// found: only then it is known which other files there are.
#[derive(Debug, Default)]
pub struct UnixSurvey {
    listed: Option<Listed>,
    queues: BTreeMap<FileId, Queue>,
    /// Sockets of the tree, by inode; known once the first is collected.
    ours: Option<BTreeSet<u32>>,
}

/// All sockets of the network namespace.
#[derive(Debug, Default)]
struct Listed {
    by_inode: BTreeMap<u32, UnixDiag>,
    /// Who listens, by the inode of who waits to be accepted there.
    waiting: BTreeMap<u32, u32>,
}

impl Listed {
    fn read() -> Result<Self> {
        let mut listed = Self::default();
        for socket in SockDiag::open()?.unix()? {
            let waiting = socket.waiting.iter().filter(|&&inode| inode != 0);
            listed.waiting.extend(waiting.map(|&inode| (inode, socket.inode)));
            listed.by_inode.insert(socket.inode, socket);
        }
        Ok(listed)
    }
}

impl UnixSurvey {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what waits in the queue of a file, if it is a unix socket.
    /// `number` gives a number to each descriptor that is found in flight.
    ///
    /// # Errors
    /// The socket has something in its queue that cannot be read without
    /// taking it out; or what `number` says.
    pub fn look(
        &mut self,
        probe: &Probe,
        mut number: impl FnMut(OwnedFd) -> Result<FileId>,
    ) -> Result<()> {
        if probe.socket_family() != Some(SocketFamily::UNIX) || self.queues.contains_key(&probe.id)
        {
            return Ok(());
        }
        let socket = self.socket(probe)?.clone();
        let queue = if Queue::may_hold(&socket) {
            Queue::collect(probe.duplicate()?.as_fd(), &socket, &probe.link, &mut number)?
        } else {
            Queue::default()
        };
        self.queues.insert(probe.id, queue);
        Ok(())
    }

    /// What the kernel lists of a socket.
    pub(super) fn socket(&mut self, probe: &Probe) -> Result<&UnixDiag> {
        // sockfs has numbers of 32 bits (get_next_ino, fs/inode.c).
        let inode = probe.stat.st_ino as u32;
        let known = |listed: &Listed| listed.by_inode.contains_key(&inode);
        if !self.listed.as_ref().is_some_and(known) {
            // Others that came or went beside it may have hidden it.
            self.listed = Some(Listed::read()?);
        }
        let listed = self.listed.as_ref().and_then(|listed| listed.by_inode.get(&inode));
        listed.ok_or_else(|| Error::Unsupported {
            object: "a unix socket",
            detail: probe.link.clone().into(),
            reason: "it belongs to another network namespace",
            hint: "run dormouse inside of that network namespace",
        })
    }

    /// Another socket, by its inode.
    pub(super) fn other(&self, inode: u32) -> Option<&UnixDiag> {
        self.listed.as_ref()?.by_inode.get(&inode)
    }

    /// Who listens where this socket waits to be accepted.
    pub(super) fn waits_for(&self, inode: u32) -> Option<u32> {
        self.listed.as_ref()?.waiting.get(&inode).copied()
    }

    /// What was in the queue of a socket; to be asked for once.
    pub(super) fn take_queue(&mut self, probe: &Probe) -> Result<Queue> {
        let unseen = |_| {
            Err(Error::Unsupported {
                object: "a descriptor in flight",
                detail: probe.link.clone().into(),
                reason: "it was sent while the checkpoint was made",
                hint: "try again",
            })
        };
        self.look(probe, unseen)?;
        Ok(self.queues.remove(&probe.id).unwrap_or_default())
    }

    /// Notes which sockets are of the tree.
    pub(super) fn count_ours<'a>(&mut self, probes: impl Iterator<Item = &'a Probe>) {
        let unix = |probe: &&Probe| probe.socket_family() == Some(SocketFamily::UNIX);
        let inode = |probe: &Probe| probe.stat.st_ino as u32;
        self.ours.get_or_insert_with(|| probes.filter(unix).map(inode).collect());
    }

    /// Whether a socket is of the tree.
    pub(super) fn is_ours(&self, inode: u32) -> bool {
        self.ours.as_ref().is_some_and(|ours| ours.contains(&inode))
    }
}
