//! How a thread is scheduled.
//!
//! - Kernel object: `task_struct.{policy, static_prio, rt_priority}`
//! - Truth from: `sched_getattr(2)` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.{sched_policy, sched_nice,
//!   sched_prio}`
//! - Not preserved: affinity; a thread under `SCHED_DEADLINE` is refused

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, OutSlot, Replies};

use super::{Property, TaskProbe};
use crate::corrupt::corrupt_core;
use crate::{Error, Result};

/// Policy (`SCHED_*`), nice value (-20 to 19) and real-time priority (0 to
/// 99).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduling {
    policy: u32,
    nice: i32,
    priority: u32,
}

/// `SCHED_DEADLINE`; `SCHED_EXT` follows.
const DEADLINE: u32 = 6;
/// The first version of `struct sched_attr`: size, policy, flags, nice value
/// at 16, priority at 20, and three parameters of deadlines.
const SCHED_ATTR: usize = 48;

impl Property for Scheduling {
    const NAME: &'static str = "scheduling";
    type Asked = OutSlot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        let attr = batch.out(SCHED_ATTR);
        let size = SCHED_ATTR as u64;
        batch.call(libc::SYS_sched_getattr, [0.into(), (&attr).into(), size.into(), 0.into()]);
        attr
    }

    fn collect(task: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        let attr: &[u8; SCHED_ATTR] = replies.array(&asked);
        let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| attr[at + i]));
        let policy = word(4);
        if policy >= DEADLINE {
            return Err(Error::Unsupported {
                object: "a thread under SCHED_DEADLINE or SCHED_EXT",
                detail: format!("tid {}", task.tid).into(),
                reason: "the parameters of its policy are not saved yet",
                hint: "give the thread another policy before the dump (chrt --other -p 0 TID)",
            });
        }
        Ok(Self { policy, nice: word(16).cast_signed(), priority: word(20) })
    }

    fn encode(&self, core: &mut CoreEntry) {
        let &Self { policy, nice, priority } = self;
        let thread = core.thread_core.get_or_insert_default();
        thread.sched_policy = Some(policy);
        thread.sched_nice = Some(nice);
        thread.sched_prio = Some(priority);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let thread = core.thread_core.as_ref();
        let read = Self {
            policy: thread.and_then(|thread| thread.sched_policy).unwrap_or(0),
            nice: thread.and_then(|thread| thread.sched_nice).unwrap_or(0),
            priority: thread.and_then(|thread| thread.sched_prio).unwrap_or(0),
        };
        if !(-20..=19).contains(&read.nice) || read.priority > 99 || read.policy >= DEADLINE {
            return Err(corrupt_core(Self::NAME, "policy, nice value or priority out of range"));
        }
        Ok(read)
    }

    fn apply(&self, batch: &mut Batch) {
        if self.policy != 0 {
            let priority = batch.data(&self.priority.to_ne_bytes());
            batch.call(
                libc::SYS_sched_setscheduler,
                [0.into(), self.policy.into(), priority.into()],
            );
        }
        if self.nice != 0 || self.policy == 0 {
            batch.call(libc::SYS_setpriority, [0.into(), 0.into(), self.nice.into()]);
        }
    }
}
