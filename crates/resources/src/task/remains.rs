//! What is left of a process that has ended, until its parent has asked for its status, and of a first
//! thread that has ended before others.
//!
//! - Kernel object: `task_struct` of a zombie
//! - Truth from: `/proc/PID/status`, `sched_getattr(2)`, `sched_getaffinity(2)`
//! - Image: `core-PID.img`, `tc.remains`, an extension, as `thread_core` of one that lives. Name and
//!   exit status are where CRIU has them
//! - Not preserved: what it has used of the processors and of memory (`wait4(2)` gives its `rusage`)
//!   and when it began; that it has left a core (`CLD_DUMPED`); limits, signal masks and actions,
//!   keyrings, seccomp filters and all else that `/proc` may show of it
//! - Scenarios: `tree::zombie_credentials`, `threads::leader_ended`

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::HostPid;
use dormouse_kernel::proc::Status;
use dormouse_puppet::Batch;

use super::credentials::Credentials;
use super::property::Property;
use super::scheduling::Scheduling;
use crate::Result;

/// What its parent can still see of it beside name and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    scheduling: Scheduling,
    credentials: Credentials,
}

impl Remains {
    /// Those of a zombie, given its `/proc/PID/status`.
    ///
    /// # Errors
    ///
    /// The kernel does not tell how it was scheduled.
    pub fn collect(pid: HostPid, status: &Status) -> Result<Self> {
        Ok(Self {
            scheduling: Scheduling::of(pid)?,
            // Nobody can see what the bits were.
            credentials: Credentials::new(status, 0),
        })
    }

    /// Writes them to the image of the process.
    pub fn encode(&self, core: &mut CoreEntry) {
        let Self { scheduling, credentials } = self;
        let mut alone = CoreEntry::default();
        scheduling.encode(&mut alone);
        credentials.encode(&mut alone);
        core.tc.get_or_insert_default().remains = alone.thread_core;
    }

    /// Reads them back and judges them. An image of CRIU has none.
    ///
    /// # Errors
    ///
    /// They make no sense.
    pub fn decode(core: &CoreEntry) -> Result<Option<Self>> {
        let Some(remains) = core.tc.as_ref().and_then(|tc| tc.remains.clone()) else {
            return Ok(None);
        };
        let alone = CoreEntry { thread_core: Some(remains), ..CoreEntry::default() };
        Ok(Some(Self {
            scheduling: Scheduling::decode(&alone)?,
            credentials: Credentials::decode(&alone)?,
        }))
    }

    /// Adds the calls that give them to the task which runs the batch, and is to end.
    pub fn apply(&self, batch: &mut Batch) {
        let Self { scheduling, credentials } = self;
        scheduling.apply(batch);
        credentials.apply(batch);
    }
}
