//! How a thread is scheduled.
//!
//! - Kernel object: `task_struct.{policy, static_prio, rt_priority, dl,
//!   sched_reset_on_fork, uclamp_req, cpus_mask}`
//! - Truth from: `sched_getattr(2)`, `sched_getaffinity(2)`; the nice value, which the kernel keeps also
//!   where a policy makes no use of it, from `getpriority(2)`
//! - Image: `core-TID.img`, `thread_core.{sched_policy, sched_nice,
//!   sched_prio}`; the rest in `thread_core.scheduling`, an extension
//! - Privileges needed: `CAP_SYS_NICE` for deadlines, real-time policies and
//!   negative nice values
//! - Not preserved: what is left of the running period of a deadline; an
//!   affinity to all processors is one to all there are at the restore
//! - Scenarios: `threads::{policies, properties}`

use std::sync::LazyLock;

use dormouse_image::proto::core::{CoreEntry, SchedulingEntry};
use dormouse_kernel::sched::{self, CpuSet, SchedAttr};
use dormouse_kernel::{Errno, HostPid};
use dormouse_puppet::{Batch, Replies};

use super::{Property, TaskProbe};
use crate::corrupt::corrupt_core;
use crate::{Error, Result};

/// Policy with its parameters, and the processors it may run on if not on all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    attr: SchedAttr,
    affinity: Option<CpuSet>,
}

/// Read once, not for every thread.
static ONLINE: LazyLock<Result<CpuSet, Errno>> = LazyLock::new(CpuSet::online);

/// Likewise, in nanoseconds: what the kernel gives who asks for nothing.
static USUAL: LazyLock<Option<u64>> =
    LazyLock::new(|| sched::attr(HostPid::of_self()).ok().map(|own| own.runtime));

const DEADLINE: u32 = 6;
/// `SCHED_EXT`, the last policy there is.
const EXTENSIBLE: u32 = 7;
const REAL_TIME: [u32; 2] = [1, 2];
/// `SCHED_OTHER` and `SCHED_BATCH`, the policies with which a nice value is set.
const FAIR: [u32; 2] = [0, 3];
/// `SCHED_FLAG_RESET_ON_FORK`, `SCHED_FLAG_RECLAIM`, `SCHED_FLAG_DL_OVERRUN`.
const KEPT_FLAGS: u64 = 0b111;
/// `SCHED_FLAG_UTIL_CLAMP_MIN` and `SCHED_FLAG_UTIL_CLAMP_MAX`.
const CLAMPS: u64 = 0x60;
const MOST_UTILISATION: u32 = 1024;

impl Scheduling {
    /// That of a task, which may have ended.
    pub(super) fn of(task: HostPid) -> Result<Self> {
        let refused =
            |error: sched::Error| Error::kernel("sched_getattr", task.to_string())(error.source);
        let mut attr = SchedAttr { size: 0, ..sched::attr(task).map_err(refused)? };
        if !FAIR.contains(&attr.policy) {
            attr.nice = sched::nice(task).map_err(refused)?;
        }
        if attr.policy != DEADLINE {
            // A time slice that the thread has asked for, and not the usual one.
            if *USUAL == Some(attr.runtime) {
                attr.runtime = 0;
            }
            (attr.deadline, attr.period) = (0, 0);
        }
        let affinity = sched::affinity(task).map_err(refused)?;
        let all = ONLINE.as_ref().map_err(|&error| Error::kernel("read", CpuSet::ONLINE)(error))?;
        Ok(Self { attr, affinity: (affinity != *all).then_some(affinity) })
    }
}

impl Property for Scheduling {
    const NAME: &'static str = "scheduling";
    type Asked = ();

    fn ask(_: &mut Batch) -> Self::Asked {}

    fn collect(task: &TaskProbe<'_>, _: &Replies, (): Self::Asked) -> Result<Self> {
        Self::of(task.tid)
    }

    fn encode(&self, core: &mut CoreEntry) {
        let Self { attr, affinity } = self;
        let thread = core.thread_core.get_or_insert_default();
        thread.sched_policy = Some(attr.policy);
        thread.sched_nice = Some(attr.nice);
        thread.sched_prio = Some(attr.priority);
        let rest = SchedulingEntry {
            flags: attr.flags & KEPT_FLAGS,
            runtime: attr.runtime,
            deadline: attr.deadline,
            period: attr.period,
            util_min: attr.util_min,
            util_max: attr.util_max,
            affinity: affinity.as_ref().map(|set| set.words().to_vec()).unwrap_or_default(),
        };
        thread.scheduling = (rest != SchedulingEntry::default()).then_some(rest);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let thread = core.thread_core.as_ref();
        let rest = thread.and_then(|thread| thread.scheduling.clone()).unwrap_or_default();
        let attr = SchedAttr {
            policy: thread.and_then(|thread| thread.sched_policy).unwrap_or(0),
            nice: thread.and_then(|thread| thread.sched_nice).unwrap_or(0),
            priority: thread.and_then(|thread| thread.sched_prio).unwrap_or(0),
            flags: rest.flags,
            runtime: rest.runtime,
            deadline: rest.deadline,
            period: rest.period,
            util_min: rest.util_min,
            util_max: rest.util_max,
            ..SchedAttr::default()
        };
        let bad = |reason| Err(corrupt_core(Self::NAME, reason));
        if !(-20..=19).contains(&attr.nice) || attr.priority > 99 || attr.policy > EXTENSIBLE {
            return bad("policy, nice value or priority out of range");
        }
        if attr.policy == DEADLINE && attr.runtime == 0 {
            return bad("a deadline without a time to run");
        }
        if attr.flags & !KEPT_FLAGS != 0 || attr.util_max.max(attr.util_min) > MOST_UTILISATION {
            return bad("flags or utilisation there is not");
        }
        let affinity = (!rest.affinity.is_empty()).then(|| CpuSet::from_words(rest.affinity));
        Ok(Self { attr, affinity })
    }

    fn apply(&self, batch: &mut Batch) {
        let Self { attr, affinity } = self;
        if let Some(set) = affinity {
            let bytes: Vec<u8> = set.words().iter().flat_map(|word| word.to_ne_bytes()).collect();
            let mask = batch.data(&bytes);
            let len = bytes.len() as u64;
            batch.call(libc::SYS_sched_setaffinity, [0.into(), len.into(), mask.into()]);
        }
        let mut attr = *attr;
        let usual = if REAL_TIME.contains(&attr.policy) { MOST_UTILISATION } else { 0 };
        let untouched = [(0, 0), (usual, MOST_UTILISATION)];
        if !untouched.contains(&(attr.util_min, attr.util_max)) {
            attr.flags |= CLAMPS;
        }
        if !FAIR.contains(&attr.policy) {
            let nice = i64::from(attr.nice).cast_unsigned();
            batch.call(libc::SYS_setpriority, [0.into(), 0.into(), nice.into()]);
        }
        let attr = batch.data(&attr.to_bytes());
        batch.call(libc::SYS_sched_setattr, [0.into(), attr.into(), 0.into()]);
    }
}
