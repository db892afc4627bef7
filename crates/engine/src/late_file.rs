//! A file that is written when all has gone well, and was known to be writable before anything was done.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use dormouse_kernel::Errno;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, fstat, linkat, open};

use crate::cause::Cause;

/// Such a file. If it is dropped, nothing is written, and nothing is left that was not there.
#[derive(Debug)]
pub(crate) struct LateFile {
    path: PathBuf,
    mode: Mode,
    hint: &'static str,
    opened: Opened,
}

#[derive(Debug)]
enum Opened {
    /// It was there.
    There(File),
    /// It has no name yet.
    Unnamed(File),
    /// The file system makes none without a name, but allows one to be made.
    Later,
}

impl LateFile {
    /// Finds out whether `path` can be written to. `mode` is for a new file; `hint` says what to do
    /// if it cannot.
    pub(crate) fn begin(path: PathBuf, mode: Mode, hint: &'static str) -> Result<Self, Cause> {
        match opened(&path, mode) {
            Ok(opened) => Ok(Self { path, mode, hint, opened }),
            Err(source) => Err(Cause::Output { path, hint, source }),
        }
    }

    /// Writes it.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<(), Cause> {
        let Self { path, mode, hint, opened } = self;
        let written = match opened {
            Opened::There(file) => rewrite(file, bytes),
            Opened::Unnamed(file) => give(file, bytes, &path, mode),
            Opened::Later => write_new(&path, mode, bytes),
        };
        written.map_err(|source| Cause::Output { path, hint, source })
    }
}

fn opened(path: &Path, mode: Mode) -> Result<Opened, Errno> {
    // Nobody is waited for at the other end of a fifo.
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    match open(path, flags, Mode::empty()) {
        Ok(file) => return Ok(Opened::There(file.into())),
        Err(Errno::NOENT) => {}
        Err(source) => return Err(source),
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    match open(above, OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC, mode) {
        Ok(file) => Ok(Opened::Unnamed(file.into())),
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let wanted = Access::WRITE_OK | Access::EXEC_OK;
            accessat(CWD, above, wanted, AtFlags::EACCESS).map(|()| Opened::Later)
        }
        Err(source) => Err(source),
    }
}

fn write_all(mut file: File, bytes: &[u8]) -> Result<(), Errno> {
    file.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn rewrite(file: File, bytes: &[u8]) -> Result<(), Errno> {
    // Terminals and pipes have nothing of before.
    if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile {
        rustix::fs::ftruncate(&file, 0)?;
    }
    write_all(file, bytes)
}

fn give(file: File, bytes: &[u8], path: &Path, mode: Mode) -> Result<(), Errno> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    write_all(file.try_clone().map_err(|_| Errno::MFILE)?, bytes)?;
    match linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        // Somebody else was faster, or it is a link to where nothing is.
        Err(Errno::EXIST) => write_new(path, mode, bytes),
        linked => linked,
    }
}

fn write_new(path: &Path, mode: Mode, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOCTTY;
    write_all(open(path, flags, mode)?.into(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn begin(path: &Path) -> Result<LateFile, Cause> {
        LateFile::begin(path.to_owned(), Mode::RUSR | Mode::WUSR, "do")
    }

    #[test]
    fn it_is_there_when_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        drop(begin(&path).unwrap());
        let late = begin(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        late.write(b"first").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        let late = begin(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        late.write(b"2nd").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2nd");
    }

    #[test]
    fn others_may_be_faster() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let late = begin(&path).unwrap();
        fs::write(&path, "somebody's").unwrap();
        late.write(b"ours").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("target"), &link).unwrap();
        begin(&link).unwrap().write(b"led to").unwrap();
        assert_eq!(fs::read(dir.path().join("target")).unwrap(), b"led to");
    }

    #[test]
    fn what_cannot_be_written_is_found_before() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("no/where")] {
            assert!(matches!(begin(&path), Err(Cause::Output { .. })), "{path:?}");
        }
    }
}
