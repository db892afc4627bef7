//! `stats-dump` and `stats-restore`: what the work cost, in CRIU's words.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use dormouse_image::proto::stats::{DumpStatsEntry, RestoreStatsEntry, StatsEntry};
use dormouse_image::{ImageName, framing};
use dormouse_kernel::Errno;
use dormouse_resources::memory::PlannedPages;
use rustix::fs::{Mode, OFlags};

use crate::DumpReport;
use crate::cause::Cause;

/// Microseconds, as far as 32 bits go.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Writes `stats-dump` into `dir`.
pub(crate) fn write_dump(dir: &Path, report: &DumpReport) -> Result<(), Cause> {
    let DumpReport { freezing, frozen, memory, pages, tasks: _ } = report;
    let dump = DumpStatsEntry {
        freezing_time: micros(*freezing),
        frozen_time: micros(*frozen),
        memdump_time: micros(*memory),
        memwrite_time: micros(*memory),
        pages_scanned: pages.found,
        pages_skipped_parent: pages.in_common,
        pages_written: pages.written,
        shpages_scanned: Some(pages.found_shared),
        shpages_skipped_parent: Some(0),
        shpages_written: Some(pages.written_shared),
        ..DumpStatsEntry::default()
    };
    write(dir, ImageName::StatsDump, &StatsEntry { dump: Some(dump), restore: None })
}

/// Writes `stats-restore` into `dir`.
pub(crate) fn write_restore(
    dir: &Path,
    (forking, whole): (Duration, Duration),
    pages: PlannedPages,
) -> Result<(), Cause> {
    let restore = RestoreStatsEntry {
        pages_compared: pages.compared,
        pages_skipped_cow: pages.inherited,
        forking_time: micros(forking),
        restore_time: micros(whole),
        pages_restored: Some(pages.written),
    };
    write(dir, ImageName::StatsRestore, &StatsEntry { dump: None, restore: Some(restore) })
}

fn write(dir: &Path, name: ImageName, entry: &StatsEntry) -> Result<(), Cause> {
    let path = dir.join(name.to_string());
    let own = |call, source| Cause::Own { call, subject: path.display().to_string(), source };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|source| own("open", source))?;
    let mut bytes = Vec::new();
    framing::write_header(&mut bytes, name.kind().magic)
        .and_then(|()| framing::write_message(&mut bytes, entry, &mut Vec::new()))
        .and_then(|()| File::from(file).write_all(&bytes))
        .map_err(|error| own("write", Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}
