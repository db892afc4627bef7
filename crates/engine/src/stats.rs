//! `stats-dump` and `stats-restore`: what the work cost, in CRIU's words.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use dormouse_image::proto::stats::{DumpStatsEntry, RestoreStatsEntry, StatsEntry};
use dormouse_image::{ImageName, framing};
use dormouse_kernel::Errno;
use dormouse_resources::memory::PlannedPages;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Stat, statat};
use tracing::warn;

use crate::DumpReport;
use crate::cause::Cause;
use crate::late_file::LateFile;

/// Microseconds, as far as 32 bits go.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Where the figures go.
///
/// They are no part of the program: where they cannot be written, it is dumped and restored without,
/// as CRIU does it, unless the user wants to see them.
#[derive(Debug)]
pub(crate) struct Stats {
    name: ImageName,
    file: Option<LateFile>,
}

impl Stats {
    /// Finds out whether the file can be written, before anything is done.
    pub(crate) fn begin(dir: &Path, name: ImageName, needed: bool) -> Result<Self, Cause> {
        let path = dir.join(name.to_string());
        let hint = "give another directory for it with --work-dir";
        let found = statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW);
        let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let begun = match found.is_ok_and(|stat| !is_file(stat)) {
            // Somebody wants it written elsewhere, or somebody to wait.
            true => Err(Cause::Output { path, hint, source: Errno::EXIST }),
            false => LateFile::begin(path, Mode::RUSR | Mode::WUSR, hint),
        };
        match begun {
            Ok(file) => Ok(Self { name, file: Some(file) }),
            Err(error) if needed => Err(error),
            Err(error) => {
                tell(&error);
                Ok(Self { name, file: None })
            }
        }
    }

    /// Writes `stats-dump`.
    pub(crate) fn write_dump(self, report: &DumpReport) {
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
        self.write(&StatsEntry { dump: Some(dump), restore: None });
    }

    /// Writes `stats-restore`.
    pub(crate) fn write_restore(self, (forking, whole): (Duration, Duration), pages: PlannedPages) {
        let restore = RestoreStatsEntry {
            pages_compared: pages.compared,
            pages_skipped_cow: pages.inherited,
            forking_time: micros(forking),
            restore_time: micros(whole),
            pages_restored: Some(pages.written),
        };
        self.write(&StatsEntry { dump: None, restore: Some(restore) });
    }

    fn write(self, entry: &StatsEntry) {
        let Self { name, file: Some(file) } = self else { return };
        let mut bytes = Vec::new();
        framing::write_header(&mut bytes, name.kind().magic)
            .and_then(|()| framing::write_message(&mut bytes, entry, &mut Vec::new()))
            .expect("there is room in memory");
        // Nothing is to fail for want of figures when all the rest is done.
        if let Err(error) = file.write(&bytes) {
            tell(&error);
        }
    }
}

fn tell(error: &Cause) {
    warn!(source = error.source(), "{error}");
}
