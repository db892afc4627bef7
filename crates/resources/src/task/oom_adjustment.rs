//! How likely a process is to be killed when memory runs out.
//!
//! - Kernel object: `signal_struct.oom_score_adj`
//! - Truth from: `/proc/PID/oom_score_adj`
//! - Image: `core-PID.img`, `tc.oom_score_adj`
//! - Create: dormouse writes it to `/proc/PID/oom_score_adj`
//! - Privileges needed: `CAP_SYS_RESOURCE` for less than dormouse itself has
//! - Not preserved: how low a process may go without privileges
//!   (`oom_score_adj_min`), which nothing tells; it becomes that of dormouse
//! - Scenarios: `tree::outside`

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::proc::ProcDir;

use super::outside::write;
use crate::Result;
use crate::corrupt::corrupt_core;

/// -1000 to 1000; `None` if the image does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OomAdjustment(Option<i16>);

impl OomAdjustment {
    pub(super) fn collect(process: &ProcDir) -> Result<Self> {
        Ok(Self(Some(process.oom_score_adj()?)))
    }

    pub(super) fn encode(self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().oom_score_adj = self.0.map(i32::from);
    }

    pub(super) fn decode(core: &CoreEntry) -> Result<Self> {
        match core.tc.as_ref().and_then(|tc| tc.oom_score_adj) {
            None => Ok(Self(None)),
            Some(raw @ -1000..=1000) => Ok(Self(Some(raw as i16))),
            Some(_) => Err(corrupt_core("oom_score_adj", "out of range")),
        }
    }

    pub(super) fn write(self, process: &ProcDir) -> Result<()> {
        match self.0 {
            Some(wanted) if process.oom_score_adj()? != wanted => {
                write(process, "oom_score_adj", &wanted.to_string())
            }
            _ => Ok(()),
        }
    }
}
