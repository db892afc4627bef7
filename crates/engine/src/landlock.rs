//! Which threads are in Landlock domains, out of the kernel's memory.
//!
//! Each security module has its place in a memory block that hangs on credentials, and only its own
//! code knows where: so a thread of dormouse enters a domain, and what has changed shows the place.
//!
//! - Kernel object: `cred.security`, `struct landlock_cred_security`
//! - Truth from: `security/landlock/cred.h`, `landlock_restrict_self(2)`
//! - Without `CAP_BPF` and `CAP_PERFMON`, or without type information: threads that cannot look into
//!   dormouse are taken for some in domains

use std::thread;

use dormouse_kernel::kcmp::{self, Shared};
use dormouse_kernel::{HostPid, landlock};
use dormouse_resources::task::Refusal;
use epoll_interest::kernel_memory::{Address, Btf, BtfError, KernelMemory, OpenError, ReadError};

use crate::cause::Cause;

/// Bytes of the block that are looked at. There are few modules, with few words each.
const BLOCK: usize = 256;
/// Where the kernel's half of all addresses begins.
const KERNEL: Address = 0xffff_8000_0000_0000;

/// Why nothing is known of domains.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unknown {
    /// The kernel's memory cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is not as expected.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Dormouse cannot enter a domain to see where that shows.
    #[error("cannot enter a Landlock domain")]
    Enter(#[source] dormouse_kernel::Errno),
    /// That shows nowhere.
    #[error("the kernel does not tell where it keeps Landlock domains")]
    Hidden,
}

impl From<Unknown> for Cause {
    fn from(error: Unknown) -> Self {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(%error, source, "nobody can tell who is in a Landlock domain");
        Self::Unsupported(Refusal::HiddenLandlock)
    }
}

/// Whether dormouse itself is in a domain; not if all that it can see is in the same.
pub(crate) fn of_self() -> Result<bool, Unknown> {
    let first = HostPid::from_raw(1).expect("a pid is positive");
    if !landlock::is_there() || kcmp::shared(HostPid::of_self(), first, Shared::Memory).is_ok() {
        return Ok(false);
    }
    let (mut domains, ()) = Domains::open(|_| Ok(()))?;
    let own = domains.memory.current_task()?;
    Ok(domains.of(&[own])?[0])
}

/// Finds domains. Offsets in bytes.
pub(crate) struct Domains {
    memory: KernelMemory,
    credentials: usize,
    security: usize,
    domain: usize,
}

impl Domains {
    /// Finds out where they are. `further` looks up what else is needed.
    pub(crate) fn open<L>(
        further: impl FnOnce(&Btf<'_>) -> Result<L, BtfError>,
    ) -> Result<(Self, L), Unknown> {
        let (memory, (further, credentials, security)) = KernelMemory::open(|btf| {
            let credentials = btf.structure("task_struct")?.offset("real_cred")?;
            Ok((further(btf)?, credentials, btf.structure("cred")?.offset("security")?))
        })?;
        let mut domains = Self { memory, credentials, security, domain: 0 };
        let before = domains.own_block()?;
        let inside = thread::scope(|scope| {
            let look = || {
                landlock::enter_domain().map_err(Unknown::Enter)?;
                domains.own_block()
            };
            scope.spawn(look).join().expect("it does not panic")
        })?;
        let words = before.iter().zip(&inside);
        let changed =
            words.into_iter().position(|(before, inside)| before != inside && *inside >= KERNEL);
        domains.domain = changed.ok_or(Unknown::Hidden)? * size_of::<Address>();
        Ok((domains, further))
    }

    /// The memory that they are found in.
    pub(crate) fn memory(&mut self) -> &mut KernelMemory {
        &mut self.memory
    }

    fn own_block(&mut self) -> Result<Vec<Address>, Unknown> {
        let own = self.memory.current_task()?;
        let credentials = self.memory.word(own + self.credentials as u64)?;
        let block = self.memory.word(credentials + self.security as u64)?;
        let bytes = self.memory.read(&[block], BLOCK)?;
        Ok(bytes.as_chunks().0.iter().map(|word| Address::from_ne_bytes(*word)).collect())
    }

    /// Which of some tasks are in a domain.
    pub(crate) fn of(&mut self, tasks: &[Address]) -> Result<Vec<bool>, Unknown> {
        let credentials = self.memory.words_behind(tasks, self.credentials)?;
        let blocks = self.memory.words_behind(&credentials, self.security)?;
        let domains = self.memory.words_behind(&blocks, self.domain)?;
        Ok(domains.into_iter().map(|domain| domain != 0).collect())
    }
}
