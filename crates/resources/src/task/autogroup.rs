//! The nice value of the group that a session is scheduled as.
//!
//! - Kernel object: `signal_struct.autogroup`
//! - Truth from: `/proc/PID/autogroup`, which is empty where sessions are not
//!   scheduled as groups, and in a cgroup that is
//! - Image: `core-PID.img`, `tc.autogroup_nice`, an extension
//! - Create: the group comes with the session; dormouse writes its nice value
//!   to `/proc/PID/autogroup`
//! - Not preserved: its number, which is new for every session
//! - Scenarios: `tree::outside`

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::proc::ProcDir;

use super::outside::write;
use crate::Result;
use crate::corrupt::corrupt_core;

/// -20 to 19; `None` if there is no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Autogroup(Option<i32>);

impl Autogroup {
    pub(super) fn collect(process: &ProcDir) -> Result<Self> {
        Ok(Self(process.autogroup_nice()?))
    }

    pub(super) fn encode(self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().autogroup_nice = self.0.filter(|&nice| nice != 0);
    }

    pub(super) fn decode(core: &CoreEntry) -> Result<Self> {
        match core.tc.as_ref().and_then(|tc| tc.autogroup_nice) {
            Some(nice) if !(-20..=19).contains(&nice) => {
                Err(corrupt_core("autogroup", "nice value out of range"))
            }
            nice => Ok(Self(nice)),
        }
    }

    pub(super) fn write(self, process: &ProcDir) -> Result<()> {
        match self.0 {
            // All that are in the group say the same.
            Some(wanted) if process.autogroup_nice()?.is_some_and(|is| is != wanted) => {
                write(process, "autogroup", &wanted.to_string())
            }
            _ => Ok(()),
        }
    }
}
