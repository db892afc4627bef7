//! What is registered in the memory of a tree, and with which userfaultfd.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use dormouse_kernel::userfaultfd::register;
use dormouse_kernel::{AddrRange, Errno, HostPid};
use tracing::warn;

use super::inside::{Found, Inside, Memory};
use super::{NAME, refused};
use crate::file::{CollectCx, Probe};
use crate::userfault::Registered;
use crate::{Error, Result};

/// What is registered in the memory of a tree.
#[derive(Default)]
pub struct UserfaultSurvey {
    inside: Option<Inside>,
    /// What no userfaultfd that was read has, by the first task with the memory.
    spaces: BTreeMap<HostPid, Vec<Registered>>,
    /// That task, for each of the tree that lives.
    firsts: BTreeMap<HostPid, HostPid>,
}

impl UserfaultSurvey {
    /// Of a tree with these tasks, each with the first that has the same memory, and what is registered in
    /// the memory of those.
    #[must_use]
    pub fn new(
        firsts: BTreeMap<HostPid, HostPid>,
        spaces: BTreeMap<HostPid, Vec<Registered>>,
    ) -> Self {
        Self { inside: None, spaces, firsts }
    }

    /// What is registered with none of those that were read.
    pub(in crate::file) fn left(&self) -> Option<(HostPid, AddrRange)> {
        let mut left = self.spaces.iter();
        left.find_map(|(&first, ranges)| Some((first, ranges.first()?.range)))
    }

    pub(super) fn look(&mut self, probe: &Probe, file: BorrowedFd<'_>) -> Result<Found> {
        let unreadable = || {
            let reason =
                "whose memory it is about is in the kernel's memory, which cannot be read here";
            refused(probe, (reason, "run dormouse with CAP_BPF and CAP_PERFMON, or as root"))
        };
        let inside = match &mut self.inside {
            Some(inside) => inside,
            none => none.insert(Inside::open().map_err(|error| {
                warn!(%error, "userfaultfds cannot be read");
                unreadable()
            })?),
        };
        inside.read(file).map_err(|_| unreadable())
    }

    /// The first task with the memory that it is about, if that is of the tree.
    pub(super) fn first(&self, found: &Found) -> Option<Option<HostPid>> {
        match found.memory {
            Memory::Gone => Some(None),
            Memory::Of(task) => self.firsts.get(&task?).copied().map(Some),
        }
    }

    /// What of the memory of a task is registered with this one. Nobody tells; but to register it again
    /// changes nothing, and is refused for what another has.
    ///
    /// That is a call for each range that is not found yet, so what is tried for several userfaultfds
    /// of the same memory is as much as there are of both together, multiplied.
    pub(super) fn take(&mut self, first: HostPid, file: impl AsFd) -> Result<Vec<Registered>> {
        let Some(ranges) = self.spaces.get_mut(&first) else { return Ok(Vec::new()) };
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for registered in std::mem::take(ranges) {
            match register(file.as_fd(), registered.range, registered.modes) {
                Ok(()) => own.push(registered),
                Err(Errno::BUSY) => others.push(registered),
                Err(source) => return Err(Error::kernel("UFFDIO_REGISTER", NAME)(source)),
            }
        }
        *ranges = others;
        Ok(own)
    }
}

impl CollectCx<'_> {
    /// Memory whose faults go to no userfaultfd of those that were read, and a task that has it.
    pub fn unclaimed_faults(&self) -> Option<(HostPid, AddrRange)> {
        self.part::<UserfaultSurvey>().left()
    }
}
