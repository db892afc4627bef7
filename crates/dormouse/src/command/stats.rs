//! `--display-stats`: the figures that the engine has written to the work
//! directory, in CRIU's words.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use dormouse_image::ImageName;
use dormouse_image::framing::Reader;
use dormouse_image::proto::stats::{DumpStatsEntry, RestoreStatsEntry, StatsEntry};

use crate::failure::Failure;
use crate::terminal;

/// Prints the figures of a dump.
pub(super) fn print_dump(work: &Path) -> Result<(), Failure> {
    match read(work, ImageName::StatsDump)?.dump {
        Some(stats) => terminal::print(&dump(&stats)).map_err(Failure::Output),
        None => Ok(()),
    }
}

/// Prints the figures of a restore.
pub(super) fn print_restore(work: &Path) -> Result<(), Failure> {
    match read(work, ImageName::StatsRestore)?.restore {
        Some(stats) => terminal::print(&restore(&stats)).map_err(Failure::Output),
        None => Ok(()),
    }
}

fn read(work: &Path, name: ImageName) -> Result<StatsEntry, Failure> {
    let path = work.join(name.to_string());
    let file = File::open(&path).map_err(|source| Failure::File {
        doing: "read the figures in",
        path: path.clone(),
        source,
    })?;
    let mut reader = Reader::from_file(file, name.kind().magic, &path)?;
    Ok(reader.need_message()?)
}

fn dump(stats: &DumpStatsEntry) -> String {
    let mut out = String::from("Displaying dump stats:\n");
    time(&mut out, "Freezing time", stats.freezing_time);
    time(&mut out, "Frozen time", stats.frozen_time);
    time(&mut out, "Memory dump time", stats.memdump_time);
    time(&mut out, "Memory write time", stats.memwrite_time);
    if let Some(irmap) = stats.irmap_resolve {
        time(&mut out, "IRMAP resolve time", irmap);
    }
    count(&mut out, "Memory pages scanned", stats.pages_scanned);
    count(&mut out, "Memory pages skipped from parent", stats.pages_skipped_parent);
    count(&mut out, "Memory pages written", stats.pages_written);
    count(&mut out, "Lazy memory pages", stats.pages_lazy);
    out
}

fn restore(stats: &RestoreStatsEntry) -> String {
    let mut out = String::from("Displaying restore stats:\n");
    count(&mut out, "Pages compared", stats.pages_compared);
    count(&mut out, "Pages skipped COW", stats.pages_skipped_cow);
    if let Some(restored) = stats.pages_restored {
        count(&mut out, "Pages restored", restored);
    }
    time(&mut out, "Restore time", stats.restore_time);
    time(&mut out, "Forking time", stats.forking_time);
    out
}

// Writing to a string cannot fail.

fn time(out: &mut String, name: &str, microseconds: u32) {
    let _ = writeln!(out, "{name}: {microseconds} us");
}

fn count(out: &mut String, name: &str, pages: u64) {
    let _ = writeln!(out, "{name}: {pages} (0x{pages:x})");
}

#[cfg(test)]
mod tests {
    use super::*;
    use dormouse_image::framing;
    use std::fs;

    #[test]
    fn figures_are_read_and_told_as_criu_tells_them() {
        let stats = StatsEntry {
            dump: Some(DumpStatsEntry {
                freezing_time: 1,
                frozen_time: 2,
                memdump_time: 3,
                memwrite_time: 4,
                pages_scanned: 500,
                pages_skipped_parent: 6,
                pages_written: 70,
                pages_lazy: 8,
                irmap_resolve: Some(9),
                ..DumpStatsEntry::default()
            }),
            restore: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        framing::write_header(&mut bytes, ImageName::StatsDump.kind().magic).unwrap();
        framing::write_message(&mut bytes, &stats, &mut Vec::new()).unwrap();
        fs::write(dir.path().join("stats-dump"), bytes).unwrap();
        let stats = read(dir.path(), ImageName::StatsDump).unwrap();
        insta::assert_snapshot!("dump", dump(&stats.dump.unwrap()));
        insta::assert_snapshot!(
            "restore",
            restore(&RestoreStatsEntry {
                pages_compared: 1,
                pages_skipped_cow: 2,
                forking_time: 3,
                restore_time: 4,
                pages_restored: Some(500),
            })
        );
    }

    #[test]
    fn damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let missing = read(dir.path(), ImageName::StatsDump).unwrap_err();
        assert!(matches!(missing, Failure::File { .. }));
        fs::write(dir.path().join("stats-dump"), "none").unwrap();
        let damaged = read(dir.path(), ImageName::StatsDump).unwrap_err();
        assert_eq!(damaged.kind(), dormouse_engine::ErrorKind::CorruptImage);
    }
}
