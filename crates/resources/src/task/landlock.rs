//! The Landlock domain of a thread, which limits what it may do.
//!
//! Nothing tells of it, and nobody but the kernel knows the rules. But who is in a domain may not look
//! into what is outside of it: a thread that can look into dormouse is in none, or in one that dormouse
//! is in as well. Of all others the kernel's memory tells, which the engine reads.
//!
//! - Kernel object: `struct landlock_cred_security`
//! - Truth from: `kcmp(2)` about dormouse, asked of the thread itself; `hook_ptrace_access_check` in
//!   `security/landlock/task.c`
//! - Image: none; a thread in a domain is refused
//! - Kernel needed: `CONFIG_SECURITY_LANDLOCK`; without, there are no domains
//! - Scenarios: `refusals::landlock`, `refusals::landlock_thread`

use std::sync::LazyLock;

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::HostPid;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;

/// Whether a thread is in no domain that dormouse is not in, as far as calls can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landlock {
    free: bool,
}

/// Read once, not for every thread.
static OWN: LazyLock<HostPid> = LazyLock::new(HostPid::of_self);

/// `KCMP_VM`.
const MEMORY: u64 = 1;

impl Landlock {
    /// Whether it is known to be in none.
    #[must_use]
    pub fn is_free(self) -> bool {
        self.free
    }
}

impl Property for Landlock {
    const NAME: &'static str = "Landlock domain";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let own = || OWN.as_raw().into();
        batch.may_fail(libc::SYS_kcmp, [own(), own(), MEMORY.into(), 0.into(), 0.into()])
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self { free: replies.result(&asked).is_ok() })
    }

    fn encode(&self, _: &mut CoreEntry) {}

    fn decode(_: &CoreEntry) -> Result<Self> {
        Ok(Self { free: true })
    }

    fn apply(&self, _: &mut Batch) {}
}
