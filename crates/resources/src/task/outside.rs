//! Properties of a process that are read from `/proc/PID` and written there,
//! by dormouse and not by the process.

use dormouse_image::proto::core::CoreEntry;
use dormouse_kernel::proc::{Entry, ProcDir};
use rustix::fs::OFlags;

use super::autogroup::Autogroup;
use super::core_dump_filter::CoreDumpFilter;
use super::oom_adjustment::OomAdjustment;
use crate::{Error, Result};

/// All of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    oom_adjustment: OomAdjustment,
    core_dump_filter: CoreDumpFilter,
    autogroup: Autogroup,
}

impl Outside {
    /// Reads them.
    pub fn collect(process: &ProcDir) -> Result<Self> {
        Ok(Self {
            oom_adjustment: OomAdjustment::collect(process)?,
            core_dump_filter: CoreDumpFilter::collect(process)?,
            autogroup: Autogroup::collect(process)?,
        })
    }

    /// Writes them to the image of the process.
    pub fn encode(&self, core: &mut CoreEntry) {
        let Self { oom_adjustment, core_dump_filter, autogroup } = *self;
        oom_adjustment.encode(core);
        core_dump_filter.encode(core);
        autogroup.encode(core);
    }

    /// Reads them back and judges them.
    pub fn decode(core: &CoreEntry) -> Result<Self> {
        Ok(Self {
            oom_adjustment: OomAdjustment::decode(core)?,
            core_dump_filter: CoreDumpFilter::decode(core),
            autogroup: Autogroup::decode(core)?,
        })
    }

    /// Gives them to a process which has its memory, and a session of the tree
    /// if `own_session`.
    pub fn write(&self, process: &ProcDir, own_session: bool) -> Result<()> {
        let Self { oom_adjustment, core_dump_filter, autogroup } = *self;
        oom_adjustment.write(process)?;
        core_dump_filter.write(process)?;
        if own_session { autogroup.write(process) } else { Ok(()) }
    }
}

/// Writes to a file of `/proc/PID`.
pub(super) fn write(process: &ProcDir, name: &'static str, text: &str) -> Result<()> {
    let file = process.open_entry(Entry::Named(name), OFlags::WRONLY)?;
    match rustix::io::write(&file, text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(source) => {
            Err(Error::kernel("write", format!("/proc/{}/{name}", process.pid()))(source))
        }
    }
}
