//! Which large registers of the processor a process may use.
//!
//! - Kernel object: `fpu.perm` of the first thread
//! - Truth from: `ARCH_GET_XCOMP_PERM` asked of the process itself
//! - Image: `core-PID.img`, `tc.xcomp_permission`, an extension
//! - Create: `ARCH_REQ_XCOMP_PERM`, before threads get their registers
//! - Kernel needed: 5.16; before, there are none
//! - Not preserved: tiles in use, which are refused: there is no place for them
//!   in a thread that has not used any
//! - Scenarios: `threads::properties`, `refusals::amx`

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::HostPid;
use dormouse_puppet::{Batch, OutSlot, Replies, Slot};

use super::refusal::Refusal;
use super::{Property, TaskProbe};
use crate::Result;

/// One bit for each component of the state, by its number; what everybody has
/// without asking is among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedFeatures(u64);

const ARCH_GET_XCOMP_PERM: u64 = 0x1022;
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
/// The tiles of AMX: all there is to ask for.
const TILES: u64 = 18;

/// Where an extended state says which components it has, in bytes.
const IN_USE: std::ops::Range<usize> = 512..520;

impl ExtendedFeatures {
    /// Whether the extended state of a thread can be given to another one.
    pub fn check(tid: HostPid, xstate: &[u8]) -> Result<()> {
        let in_use = xstate.get(IN_USE).and_then(|bytes| bytes.try_into().ok());
        if in_use.map_or(0, u64::from_le_bytes) & 1 << TILES == 0 {
            return Ok(());
        }
        Err(Refusal::Tiles.error(format!("of tid {tid}")))
    }
}

impl Property for ExtendedFeatures {
    const NAME: &'static str = "permissions for processor features";
    type Asked = (Slot, OutSlot);

    fn ask(batch: &mut Batch) -> Self::Asked {
        let features = batch.out(size_of::<u64>());
        let args = [ARCH_GET_XCOMP_PERM.into(), (&features).into()];
        (batch.may_fail(libc::SYS_arch_prctl, args), features)
    }

    fn collect(
        _: &TaskProbe<'_>,
        replies: &Replies,
        (asked, features): Self::Asked,
    ) -> Result<Self> {
        match replies.result(&asked) {
            Ok(_) => Ok(Self(u64::from_ne_bytes(*replies.array(&features)))),
            Err(_) => Ok(Self(0)),
        }
    }

    fn encode(&self, core: &mut CoreEntry) {
        let asked_for = self.0 & 1 << TILES;
        core.tc.get_or_insert_default().xcomp_permission = (asked_for != 0).then_some(asked_for);
    }

    fn decode(core: &CoreEntry) -> Result<Self> {
        Ok(Self(core.tc.as_ref().and_then(|tc| tc.xcomp_permission).unwrap_or(0)))
    }

    fn apply(&self, batch: &mut Batch) {
        if self.0 & 1 << TILES != 0 {
            batch.call(libc::SYS_arch_prctl, [ARCH_REQ_XCOMP_PERM.into(), TILES.into()]);
        }
    }
}
