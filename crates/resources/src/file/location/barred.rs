//! Files that were made append-only or immutable (`chattr(1)`) after a program had opened them: the
//! kernel would not open them so again, nor link them (`may_open`, `vfs_link`, `fs/namei.c`).

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, OFlags, Statx, StatxAttributes, StatxFlags, statx};

use crate::file::Probe;
use crate::{Error, Result};

const APPENDS: (&str, &str) = (
    "it is append-only by now, and was opened to write anywhere",
    "take the attribute off (chattr -a)",
);
const IMMUTABLE: (&str, &str) =
    ("it is immutable by now, and was opened for writing", "take the attribute off (chattr -i)");
const NO_LINK: (&str, &str) = (
    "it has lost its name, and cannot be given one: it is append-only or immutable",
    "take the attribute off (chattr -a -i)",
);

fn refused(link: &Path, (reason, hint): (&'static str, &'static str)) -> Error {
    Error::Unsupported { object: "a file", detail: link.into(), reason, hint }
}

/// Whether the file can be opened as it was, going by its attributes.
pub(super) fn may_open(probe: &Probe, found: &Statx) -> Result<()> {
    let flags = probe.flags();
    // Any other access mode is one to write by.
    if probe.is_path_only() || flags & OFlags::ACCMODE == OFlags::RDONLY {
        return Ok(());
    }
    let has = |attribute| found.stx_attributes.contains(attribute);
    if has(StatxAttributes::IMMUTABLE) {
        return Err(refused(&probe.link, IMMUTABLE));
    }
    if has(StatxAttributes::APPEND) && !flags.contains(OFlags::APPEND) {
        return Err(refused(&probe.link, APPENDS));
    }
    Ok(())
}

/// Whether it can be given another name.
pub(super) fn may_link(link: &Path, found: &Statx) -> Result<()> {
    let bars = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    match found.stx_attributes.intersects(bars) {
        false => Ok(()),
        true => Err(refused(link, NO_LINK)),
    }
}

/// The same for an open file.
pub(super) fn may_link_open(link: &Path, file: BorrowedFd<'_>) -> Result<()> {
    let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::INO);
    may_link(link, &found.map_err(Error::kernel("statx", link))?)
}
