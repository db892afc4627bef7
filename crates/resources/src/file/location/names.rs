//! Names that exist for a moment.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use dormouse_kernel::clone::Shield;
use rustix::fs::{AtFlags, CWD, Mode, linkat, mkdirat, unlinkat};
use rustix::io::{self, Errno};

use crate::{Error, Result};

/// How many other names are tried when one is taken.
const ATTEMPTS: u32 = 1000;

/// Gives the file behind `file` another name. It has one already.
pub(super) fn link(file: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, path, CWD, name, AtFlags::SYMLINK_FOLLOW)
}

/// A name that goes away again, with the directories that had to be made for
/// it.
#[derive(Debug)]
pub(super) struct MomentaryName {
    path: PathBuf,
    is_directory: bool,
    parents: Vec<PathBuf>,
    /// Goes last: a command that is killed leaves no name behind.
    _shield: Shield,
}

impl MomentaryName {
    /// Has `make` create something under `name`; if that is taken, under one
    /// beside it.
    pub(super) fn make<T>(
        name: &Path,
        is_directory: bool,
        call: &'static str,
        mut make: impl FnMut(&Path) -> io::Result<T>,
    ) -> Result<(Self, T)> {
        // Owns what was made from here on, whatever happens.
        let mut this = make_parents(name)?;
        this.is_directory = is_directory;
        let mut path = name.to_owned();
        for attempt in 1.. {
            match make(&path) {
                Ok(made) => {
                    this.path = path;
                    return Ok((this, made));
                }
                Err(Errno::EXIST) if attempt <= ATTEMPTS => path = beside(name, attempt),
                Err(source) => return Err(Error::kernel(call, path)(source)),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The name, as it is now.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes it away.
    pub(super) fn remove(mut self) -> Result<()> {
        let path = self.path.clone();
        self.undo().map_err(Error::kernel("unlink", path))
    }

    fn undo(&mut self) -> io::Result<()> {
        let path = std::mem::take(&mut self.path);
        let flags = if self.is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let mut result =
            if path.as_os_str().is_empty() { Ok(()) } else { unlinkat(CWD, &path, flags) };
        while let Some(parent) = self.parents.pop() {
            result = result.and(unlinkat(CWD, &parent, AtFlags::REMOVEDIR));
        }
        result
    }
}

impl Drop for MomentaryName {
    fn drop(&mut self) {
        // Only after an error, which is the one to be reported.
        let _ = self.undo();
    }
}

/// `name`, and something behind it that makes it another.
fn beside(name: &Path, attempt: u32) -> PathBuf {
    let mut path = OsString::from(name);
    path.push(format!(".dormouse-{attempt}"));
    path.into()
}

/// Makes the directories above `name` that are missing, uppermost first.
fn make_parents(name: &Path) -> Result<MomentaryName> {
    let mut missing = Vec::new();
    for parent in name.ancestors().skip(1) {
        match rustix::fs::access(parent, rustix::fs::Access::EXISTS) {
            Ok(()) => break,
            Err(Errno::NOENT) => missing.push(parent.to_owned()),
            Err(source) => return Err(Error::kernel("access", parent)(source)),
        }
    }
    // Owns what was made, should one of them fail.
    let mut made = MomentaryName {
        path: PathBuf::new(),
        is_directory: true,
        parents: Vec::new(),
        _shield: Shield::raise(),
    };
    while let Some(parent) = missing.pop() {
        mkdirat(CWD, &parent, Mode::RWXU).map_err(Error::kernel("mkdir", &parent))?;
        made.parents.push(parent);
    }
    Ok(made)
}
