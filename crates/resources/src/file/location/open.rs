//! Opening files where they are.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, linkat, open};
use rustix::io::Errno;

use super::build_id;
use super::names::MomentaryName;
use super::task::stand_in;
use super::{Location, Reach};
use crate::error::Change;
use crate::file::probe::reopen;
use crate::file::{CreateCx, FileId};
use crate::{Error, Result};

/// What makes `O_TMPFILE` out of `O_DIRECTORY`.
const TMPFILE: OFlags = OFlags::TMPFILE.difference(OFlags::DIRECTORY);

impl Location {
    /// The path, or the last one it had.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Opens the file for entry `id`, with `flags`: a new open file
    /// description. It may be nonblocking whatever `flags` say.
    pub(crate) fn open(&self, id: FileId, flags: OFlags, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        match &self.reach {
            Reach::Ghost(ghost) => ghost.open(id, &self.name, flags, cx),
            Reach::Name => self.open_as(&self.name, flags, cx.checks_builds()),
            Reach::Task { file, start } => {
                let opened = self.open_as(&self.name, flags, false)?;
                match start {
                    Some(start) if file.start()? != *start => {
                        let path = self.name.clone();
                        Err(Error::Changed { path, change: Change::Task })
                    }
                    _ => Ok(opened),
                }
            }
            Reach::DeadTask(file) => {
                let task = stand_in(file.task(), cx)?;
                self.open_as(&file.about(task), flags, false)
            }
            Reach::External => self.open_given(flags, cx),
            Reach::Link(link) => self.open_linked(&link.path, (&self.name, flags), cx),
            Reach::OtherName { lost } => self.open_linked(&self.name, (lost, flags), cx),
        }
    }

    /// Opens the inode of the file that was handed over.
    fn open_given(&self, flags: OFlags, cx: &CreateCx<'_>) -> Result<OwnedFd> {
        let given = self.name.to_str().and_then(|name| cx.inherited(name));
        let given = given.ok_or_else(|| Error::Unsupported {
            object: "a file",
            detail: self.name.clone().into(),
            reason: "it is external, and was not handed over",
            hint: "hand it over with --inherit-fd fd[N]:KEY",
        })?;
        reopen(given, open_flags(flags)).map_err(Error::kernel("open", &self.name))
    }

    /// Opens the file that is at `path` by the name that it has lost.
    fn open_linked(
        &self,
        path: &Path,
        (lost, flags): (&Path, OFlags),
        cx: &CreateCx<'_>,
    ) -> Result<OwnedFd> {
        let make = |name: &Path| linkat(CWD, path, CWD, name, AtFlags::empty());
        let (name, ()) = match MomentaryName::make(lost, false, "linkat", make) {
            Err(Error::Nameless { call: "linkat", source: Errno::NOENT, .. }) => {
                let path = path.to_owned();
                return Err(Error::Changed { path, change: Change::Missing });
            }
            made => made?,
        };
        let file = self.open_as(name.path(), flags, cx.checks_builds())?;
        name.remove()?;
        Ok(file)
    }

    /// Opens the file by this name, and checks that it is what it was.
    fn open_as(&self, name: &Path, flags: OFlags, checks_builds: bool) -> Result<OwnedFd> {
        let file = open(name, open_flags(flags), Mode::empty()).map_err(|source| match source {
            Errno::NOENT | Errno::NOTDIR => {
                Error::Changed { path: self.name.clone(), change: Change::Missing }
            }
            source => Error::kernel("open", name)(source),
        })?;
        let stat = fstat(&file).map_err(Error::kernel("fstat", name))?;
        let changed = |change| Error::Changed { path: self.name.clone(), change };
        if let Some(was) = self.mode
            && was != stat.st_mode
        {
            return Err(changed(Change::Mode { was, is: stat.st_mode }));
        }
        let is = u64::try_from(stat.st_size).unwrap_or(0);
        if let Some(was) = self.size
            && was != is
        {
            return Err(changed(Change::Size { was, is }));
        }
        if let Some(was) = self.build_id.as_ref().filter(|_| checks_builds) {
            let readable = reopen(file.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK)
                .map_err(Error::kernel("open", name))?;
            if build_id::of(&readable.into()).as_ref() != Some(was) {
                return Err(changed(Change::Build));
            }
        }
        Ok(file)
    }
}

/// With these an open never waits, and never makes another file.
pub(super) fn open_flags(flags: OFlags) -> OFlags {
    let flags = flags | OFlags::CLOEXEC;
    // A file that was made by O_TMPFILE and got a name since.
    let flags = if flags.contains(TMPFILE) { flags - OFlags::TMPFILE } else { flags };
    if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK | OFlags::NOCTTY }
}
