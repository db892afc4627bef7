//! The list of robust futexes a thread holds.
//!
//! - Kernel object: `task_struct.robust_list`
//! - Truth from: `get_robust_list(2)` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.{futex_rla, futex_rla_len}`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, OutSlot, Replies};

use super::{Property, TaskProbe};
use crate::Result;

/// Address and size in bytes of `struct robust_list_head`, as registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RobustList {
    head: u64,
    size: u32,
}

impl Property for RobustList {
    const NAME: &'static str = "robust futex list";
    type Asked = (OutSlot, OutSlot);

    fn ask(batch: &mut Batch) -> Self::Asked {
        let (head, size) = (batch.out(size_of::<u64>()), batch.out(size_of::<u64>()));
        batch.call(libc::SYS_get_robust_list, [0.into(), (&head).into(), (&size).into()]);
        (head, size)
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, (head, size): Self::Asked) -> Result<Self> {
        let head = u64::from_ne_bytes(*replies.array(&head));
        let size = u64::from_ne_bytes(*replies.array(&size)) as u32;
        Ok(Self { head, size })
    }

    fn encode(&self, core: &mut CoreEntry) {
        let Self { head, size } = *self;
        let thread = core.thread_core.get_or_insert_default();
        thread.futex_rla = head;
        thread.futex_rla_len = size;
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        Ok(core.thread_core.as_ref().map_or(Self { head: 0, size: 0 }, |thread| Self {
            head: thread.futex_rla,
            size: thread.futex_rla_len,
        }))
    }

    fn apply(&self, batch: &mut Batch) {
        if self.head != 0 {
            batch.call(libc::SYS_set_robust_list, [self.head.into(), self.size.into()]);
        }
    }
}
