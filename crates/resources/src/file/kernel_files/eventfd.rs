//! What `fdinfo` tells of eventfds.
//!
//! Kernel object: `struct eventfd_ctx`.
//! Truth from: `eventfd_show_fdinfo`, `fs/eventfd.c`.

use dormouse_kernel::proc::Extra;
use epoll_interest::kernel_memory::{Address, Btf, BtfError, ReadError};
use rustix::event::EventfdFlags;

use super::KernelFiles;
use super::reader::{half, word};

/// Of a `struct eventfd_ctx`, from its counter on. Offsets in bytes, but for the
/// first from there.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventfdMembers {
    count: usize,
    span: usize,
    flags: usize,
    id: usize,
}

impl EventfdMembers {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let context = btf.structure("eventfd_ctx")?;
        let count = context.offset("count")?;
        let behind = |name| {
            let at = context.offset(name)?.checked_sub(count);
            at.ok_or(BtfError::NoMember("eventfd_ctx", name))
        };
        let (flags, id) = (behind("flags")?, behind("id")?);
        Ok(Self { count, span: flags.max(id) + 4, flags, id })
    }
}

/// What an eventfd has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counter {
    count: u64,
    id: u32,
    semaphore: bool,
}

impl Counter {
    pub(super) fn extra(self) -> Extra {
        let Self { count, id, semaphore } = self;
        Extra::Eventfd { count, id: Some(id), semaphore: Some(semaphore) }
    }
}

impl KernelFiles {
    /// What eventfds have.
    pub(super) fn counters(&mut self, contexts: &[Address]) -> Result<Vec<Counter>, ReadError> {
        let EventfdMembers { count, span, flags, id } = self.layout.eventfd;
        let starts: Vec<_> = contexts.iter().map(|context| context + count as u64).collect();
        let read = self.memory.read(&starts, span)?;
        let counters = read.chunks_exact(span).map(|read| Counter {
            count: word(read, 0),
            id: half(read, id),
            semaphore: half(read, flags) & EventfdFlags::SEMAPHORE.bits() != 0,
        });
        Ok(counters.collect())
    }
}
