//! What reads of unix sockets, in the kernel's memory, what no call tells; opened when it is needed.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use super::datagrams::Datagrams;
use super::embryos::Embryos;
use super::queue::Packet;
use crate::file::{FileId, Probe};
use crate::{Error, Result};

/// What reads in the kernel's memory.
pub(super) struct Reader {
    pub(super) embryos: Embryos,
    /// Files of the tree, by where the kernel has them.
    files: Found,
    /// Sockets of datagrams, likewise.
    datagram_sockets: Found,
}

/// Files, by where the kernel has them, found among so many.
#[derive(Default)]
struct Found(usize, BTreeMap<u64, FileId>);

impl Found {
    /// Looks for them again when there are more; nothing is found where memory cannot be read.
    fn among(
        &mut self,
        probes: &BTreeMap<FileId, Probe>,
        find: impl FnOnce() -> Result<BTreeMap<u64, FileId>>,
    ) -> Result<&BTreeMap<u64, FileId>> {
        if self.0 != probes.len() {
            *self = Self(probes.len(), find()?);
        }
        Ok(&self.1)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn open() -> Option<Self> {
        let (files, datagram_sockets) = Default::default();
        Some(Self { embryos: Embryos::open().ok()?, files, datagram_sockets })
    }

    /// The files of the tree.
    pub(super) fn files(
        &mut self,
        probes: &BTreeMap<FileId, Probe>,
    ) -> Result<&BTreeMap<u64, FileId>> {
        let Self { embryos, files, .. } = self;
        let open = probes.values().filter(|probe| probe.has_description());
        files.among(probes, || embryos.inside.files_of(open))
    }

    /// What waits in a socket of datagrams, and that as packets if it can be told without looking.
    pub(super) fn datagrams(
        &mut self,
        file: BorrowedFd<'_>,
        probes: &BTreeMap<FileId, Probe>,
    ) -> Option<(Datagrams, Option<Vec<Packet>>)> {
        let read = Datagrams::read(&mut self.embryos.inside, file)?;
        let packets = match read.has_files() {
            false => read.packets(&BTreeMap::new()),
            true => self.files(probes).ok().and_then(|files| read.packets(files)),
        };
        Some((read, packets))
    }

    /// Those among the sockets of the tree that are for datagrams, if they can be found.
    pub(super) fn datagram_sockets(
        &mut self,
        probes: &BTreeMap<FileId, Probe>,
        is_one: impl Fn(&Probe) -> bool,
    ) -> Result<Option<&BTreeMap<u64, FileId>>> {
        let Self { embryos, datagram_sockets, .. } = self;
        let find = || embryos.inside.socks_of(probes.values().filter(|probe| is_one(probe)));
        match datagram_sockets.among(probes, find) {
            Ok(found) => Ok(Some(found)),
            Err(Error::KernelFiles(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
