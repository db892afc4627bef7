//! Which mappings of a process go into its core dump.
//!
//! - Kernel object: `MMF_DUMP_*` of `mm_struct.flags`
//! - Truth from: `/proc/PID/coredump_filter`
//! - Image: `core-PID.img`, `tc.coredump_filter`, an extension
//! - Create: dormouse writes it to `/proc/PID/coredump_filter`
//! - Scenarios: `tree::outside`

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::proc::ProcDir;

use super::outside::write;
use crate::Result;

/// One bit for each kind of mapping, see `core(5)`; `None` if the image does
/// not say. Bits that a kernel does not know it does not mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CoreDumpFilter(Option<u32>);

impl CoreDumpFilter {
    pub(super) fn collect(process: &ProcDir) -> Result<Self> {
        Ok(Self(Some(process.coredump_filter()?)))
    }

    pub(super) fn encode(self, core: &mut CoreEntry) {
        core.tc.get_or_insert_default().coredump_filter = self.0;
    }

    pub(super) fn decode(core: &CoreEntry) -> Self {
        Self(core.tc.as_ref().and_then(|tc| tc.coredump_filter))
    }

    pub(super) fn write(self, process: &ProcDir) -> Result<()> {
        match self.0 {
            Some(wanted) if process.coredump_filter()? != wanted => {
                write(process, "coredump_filter", &format!("{wanted:#x}"))
            }
            _ => Ok(()),
        }
    }
}
