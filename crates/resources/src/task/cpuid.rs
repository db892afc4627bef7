//! Whether a thread may ask the processor what it is (`cpuid`), or gets a signal for it.
//!
//! - Kernel object: `TIF_NOCPUID` of `thread_info.flags`
//! - Truth from: `ARCH_GET_CPUID` asked of the thread itself
//! - Image: `core-TID.img`, `thread_core.cpuid_faults`, an extension
//! - Kernel needed: to fault, a processor that can (`cpuid_fault` in `/proc/cpuinfo`)
//! - Scenarios: `cpu::cpuid`

use dormouse_image::proto::core::CoreEntry;
use dormouse_puppet::{Batch, Replies, Slot};

use super::{Property, TaskProbe};
use crate::Result;

/// Whether it gets the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    faults: bool,
}

const ARCH_GET_CPUID: i32 = 0x1011;
const ARCH_SET_CPUID: i32 = 0x1012;

impl Property for Cpuid {
    const NAME: &'static str = "CPUID faulting";
    type Asked = Slot;

    fn ask(batch: &mut Batch) -> Self::Asked {
        batch.call(libc::SYS_arch_prctl, [ARCH_GET_CPUID.into(), 0.into()])
    }

    fn collect(_: &TaskProbe<'_>, replies: &Replies, asked: Self::Asked) -> Result<Self> {
        Ok(Self { faults: replies.value(&asked) == 0 })
    }

    fn encode(&self, core: &mut CoreEntry) {
        let Self { faults } = *self;
        core.thread_core.get_or_insert_default().cpuid_faults = faults.then_some(true);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        let faults = core.thread_core.as_ref().and_then(|thread| thread.cpuid_faults);
        Ok(Self { faults: faults.unwrap_or(false) })
    }

    fn apply(&self, batch: &mut Batch) {
        if self.faults {
            batch.call(libc::SYS_arch_prctl, [ARCH_SET_CPUID.into(), 0.into()]);
        }
    }
}
