//! Names that exist for a moment.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use dormouse_kernel::clone::Shield;
use rustix::fs::{AtFlags, CWD, FileType, Mode, linkat, mkdirat, statat, unlinkat};
use rustix::io::{self, Errno};

use crate::{Error, Result};

/// How directories begin that are made where a name is taken; a number follows.
pub(super) const PRIVATE: &str = ".dormouse-";

/// How many other places are tried when a name is taken.
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
    /// Has `make` create something under `name`. If that is taken, or what should be a directory
    /// above it is none any more, it is done in a directory made for it beside what is in the way:
    /// so a file keeps the last part of its name, however long that is.
    pub(super) fn make<T>(
        name: &Path,
        is_directory: bool,
        call: &'static str,
        mut make: impl FnMut(&Path) -> io::Result<T>,
    ) -> Result<(Self, T)> {
        let ground = ground(name)?;
        let below = name.strip_prefix(ground).expect("it is above the name");
        for attempt in 0..=ATTEMPTS {
            let place = match attempt {
                0 => ground.to_owned(),
                _ => ground.join(format!("{PRIVATE}{attempt}")),
            };
            // Owns what is made from here on, whatever happens.
            let mut this = Self::nothing(is_directory);
            let path = place.join(below);
            match this
                .lead_to(ground, &path)
                .and_then(|()| make(&path).map_err(|source| (call, path.clone(), source)))
            {
                Ok(made) => {
                    this.path = path;
                    return Ok((this, made));
                }
                Err((_, _, Errno::EXIST)) if attempt < ATTEMPTS => {}
                Err((call, path, source)) => return Err(Error::Nameless { call, path, source }),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn nothing(is_directory: bool) -> Self {
        Self { path: PathBuf::new(), is_directory, parents: Vec::new(), _shield: Shield::raise() }
    }

    /// Makes the directories between `ground` and `path`, uppermost first.
    fn lead_to(
        &mut self,
        ground: &Path,
        path: &Path,
    ) -> Result<(), (&'static str, PathBuf, Errno)> {
        let missing = path.ancestors().skip(1).take_while(|&above| above != ground);
        for directory in missing.map(Path::to_owned).collect::<Vec<_>>().into_iter().rev() {
            match mkdirat(CWD, &directory, Mode::RWXU) {
                Ok(()) => self.parents.push(directory),
                Err(source) => return Err(("mkdir", directory, source)),
            }
        }
        Ok(())
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

/// The lowest directory above `name` that is there.
fn ground(name: &Path) -> Result<&Path> {
    for above in name.ancestors().skip(1) {
        match statat(CWD, above, AtFlags::empty()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Ok(above);
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(source) => {
                return Err(Error::Nameless { call: "stat", path: above.to_owned(), source });
            }
        }
    }
    let path = name.to_owned();
    Err(Error::Nameless { call: "stat", path, source: Errno::NOENT })
}
