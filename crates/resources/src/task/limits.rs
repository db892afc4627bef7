//! Resource limits of a process.
//!
//! - Kernel object: `signal_struct.rlim`
//! - Truth from: `/proc/PID/limits`, which needs no right that `prlimit(2)`
//!   on another user's process needs
//! - Image: `core-PID.img`, `tc.rlimits`, 16 entries in the order of
//!   `RLIMIT_*`
//! - Privileges needed: `CAP_SYS_RESOURCE` to restore a hard limit above that
//!   of dormouse, which is refused before anything is created otherwise

use dormouse_image::proto::core::{CoreEntry, RlimitEntry, TaskRlimitsEntry};
use dormouse_kernel::rlimit::{Resource, Rlimit};
use dormouse_puppet::{Batch, Replies};

use super::refusal::Refusal;
use super::{Property, TaskProbe};
use crate::Result;
use crate::corrupt::corrupt_core;

/// Soft and hard limit of every resource, in the order of `RLIMIT_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits(Vec<Rlimit>);

impl Limits {
    /// Whether a process with the limits `own` can give these to another one,
    /// which it can if it may `raise` hard limits or none is above its own.
    pub fn check(&self, own: &dormouse_kernel::proc::Limits, raise: bool) -> Result<()> {
        for (limit, (resource, own)) in self.0.iter().zip(own.iter()) {
            if limit.hard > own.hard && !raise {
                return Err(Refusal::HardLimit
                    .error(format!("{resource:?}: {} above {}", limit.hard, own.hard)));
            }
        }
        Ok(())
    }
}

impl Property for Limits {
    const NAME: &'static str = "resource limits";
    type Asked = ();

    fn ask(_: &mut Batch) -> Self::Asked {}

    fn collect(task: &TaskProbe<'_>, _: &Replies, (): Self::Asked) -> Result<Self> {
        Ok(Self(task.proc.limits()?.iter().map(|(_, limit)| limit).collect()))
    }

    fn encode(&self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().rlimits = Some(TaskRlimitsEntry {
            rlimits: self
                .0
                .iter()
                .map(|&Rlimit { soft, hard }| RlimitEntry { cur: soft, max: hard })
                .collect(),
        });
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let entries = core
            .tc
            .as_ref()
            .and_then(|tc| tc.rlimits.as_ref())
            .map_or(&[][..], |limits| &limits.rlimits);
        if entries.len() > Resource::COUNT {
            return Err(corrupt_core(Self::NAME, "more than there are resources"));
        }
        if entries.iter().any(|entry| entry.cur > entry.max) {
            return Err(corrupt_core(Self::NAME, "a soft limit above the hard one"));
        }
        Ok(Self(entries.iter().map(|entry| Rlimit { soft: entry.cur, hard: entry.max }).collect()))
    }

    /// Comes later, by [`Limits::set`].
    fn apply(&self, _: &mut Batch) {}
}

impl Limits {
    /// Sets all. Signals that wait are queued before, for there may be more than can be by now, and
    /// credentials change after.
    pub fn set(&self, batch: &mut Batch) {
        for (resource, limit) in (0_u64..).zip(&self.0) {
            let words = [limit.soft, limit.hard].map(u64::to_ne_bytes);
            let value = batch.data(words.as_flattened());
            batch.call(libc::SYS_prlimit64, [0.into(), resource.into(), value.into(), 0.into()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use dormouse_kernel::proc::ProcDir;
    use dormouse_kernel::rlimit::Rlimit;

    use super::Limits;

    #[test]
    fn a_hard_limit_above_the_own_takes_a_capability() {
        let own = ProcDir::of_self().unwrap().limits().unwrap();
        let mut limits = Limits(own.iter().map(|(_, limit)| limit).collect());
        limits.check(&own, false).unwrap();
        let Some(finite) = limits.0.iter_mut().find(|limit| limit.hard < Rlimit::INFINITY) else {
            return;
        };
        finite.hard += 1;
        assert!(limits.check(&own, false).is_err());
        limits.check(&own, true).unwrap();
    }
}
