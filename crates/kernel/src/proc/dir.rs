//! The directory of one task.

use super::scan::ParseError;
use super::{Entry, Error, FdInfo, Limits, Operation, Smap, Stat, Status, Vma, maps};
use crate::{Errno, FdNum, HostPid};
use rustix::buffer::spare_capacity;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, RawDir, accessat, openat, readlinkat};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// `/proc/PID` or `/proc/PID/task/TID`, held open.
///
/// The directory belongs to the task, not to the number: once the task is
/// reaped every question is answered with [`Error::Gone`], even if its number
/// is in use again. A zombie still has `stat`, `status`, `limits` and
/// `children`; it has no memory, no links and no descriptors.
#[derive(Debug)]
pub struct ProcDir {
    fd: OwnedFd,
    pid: HostPid,
}

const ALWAYS: OFlags = OFlags::CLOEXEC;

impl ProcDir {
    /// `/proc/PID`. Given the number of a thread, its directory is opened
    /// (as the kernel allows, though it does not list it).
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if there is no such task.
    pub fn open(pid: HostPid) -> Result<Self, Error> {
        let mut path = String::with_capacity(16);
        // Writing to a String does not fail.
        let _ = write!(path, "/proc/{pid}");
        match openat(CWD, path, ALWAYS | OFlags::DIRECTORY | OFlags::PATH, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, pid }),
            Err(Errno::NOENT | Errno::SRCH) => Err(Error::Gone { pid }),
            Err(source) => {
                Err(Error::Io { operation: Operation::Open, entry: Entry::Named("."), pid, source })
            }
        }
    }

    /// The directory of the calling process.
    ///
    /// # Errors
    ///
    /// `/proc` is not mounted, or for another pid namespace.
    pub fn of_self() -> Result<Self, Error> {
        Self::open(HostPid::of_self())
    }

    /// `task/TID` below it.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] (of `tid`) if the process has no such thread.
    pub fn task(&self, tid: HostPid) -> Result<Self, Error> {
        let entry = Entry::Task(tid);
        match self.open_entry(entry, OFlags::DIRECTORY | OFlags::PATH) {
            Ok(fd) => Ok(Self { fd, pid: tid }),
            Err(Error::Io { source: Errno::NOENT | Errno::SRCH, .. }) => {
                Err(Error::Gone { pid: tid })
            }
            Err(error) => Err(error),
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn pid(&self) -> HostPid {
        self.pid
    }

    /// Whether the task was reaped.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        !self.has(Entry::Named("stat"))
    }

    fn has(&self, entry: Entry) -> bool {
        let path = entry.path();
        accessat(&self.fd, path.as_bytes(), Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// `stat`.
    ///
    /// # Errors
    ///
    /// As all that reads here: [`Error`].
    pub fn stat(&self) -> Result<Stat, Error> {
        self.parse(Entry::Named("stat"), Stat::parse)
    }

    /// `status`.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn status(&self) -> Result<Status, Error> {
        self.parse(Entry::Named("status"), Status::parse)
    }

    /// `task/TID/stat`.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] (of `tid`) if the process has no such thread.
    pub fn stat_of(&self, tid: HostPid) -> Result<Stat, Error> {
        self.parse_of(tid, "stat", Stat::parse)
    }

    /// `task/TID/status`.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] (of `tid`) if the process has no such thread.
    pub fn status_of(&self, tid: HostPid) -> Result<Status, Error> {
        self.parse_of(tid, "status", Status::parse)
    }

    /// The threads of the process, the first one first. Exact only while
    /// they are all stopped.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn tasks(&self) -> Result<Vec<HostPid>, Error> {
        let mut tids = Vec::new();
        self.numbers("task", |number| {
            tids.extend(i32::try_from(number).ok().and_then(HostPid::from_raw));
        })?;
        Ok(tids)
    }

    /// The children one thread of the process has (`task/TID/children`).
    /// Exact only while they are all stopped: a child that goes away in the
    /// middle may hide its neighbours.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn children(&self, tid: HostPid) -> Result<Vec<HostPid>, Error> {
        self.parse(Entry::Children(tid), super::small::parse_children)
    }

    /// `maps`: cheap, whatever the size of the memory.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn maps(&self) -> Result<Vec<Vma>, Error> {
        self.parse(Entry::Named("maps"), maps::parse_maps)
    }

    /// `smaps`: the kernel walks all page tables for it.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn smaps(&self) -> Result<Vec<Smap>, Error> {
        /// The text takes many times the memory of what it says.
        const PIECE: usize = 64 << 10;
        let entry = Entry::Named("smaps");
        let file = self.open_entry(entry, OFlags::RDONLY)?;
        let (mut bytes, mut smaps, mut before) = (Vec::with_capacity(8192), Vec::new(), 0);
        loop {
            let more = self.read_more(&file, entry, &mut bytes)?;
            if more && bytes.len() < PIECE {
                continue;
            }
            let parsed = match more {
                true => maps::parse_some_smaps(&bytes, &mut smaps),
                false => maps::parse_smaps(&bytes).map(|rest| {
                    smaps.extend(rest);
                    bytes.len()
                }),
            };
            let taken = parsed.map_err(|ParseError { offset, expected }| {
                let source = ParseError { offset: before + offset, expected };
                Error::Parse { entry, pid: self.pid, source }
            })?;
            if !more {
                return Ok(smaps);
            }
            bytes.drain(..taken);
            before += taken;
        }
    }

    /// The numbers of all open descriptors, lowest first.
    ///
    /// # Errors
    ///
    /// `EACCES` without the right to trace the task.
    pub fn fd_numbers(&self) -> Result<Vec<FdNum>, Error> {
        let mut fds = Vec::new();
        self.numbers("fd", |number| fds.push(FdNum::from_raw(number)))?;
        // The kernel goes through the table from the start.
        debug_assert!(fds.is_sorted(), "getdents on /proc/PID/fd");
        Ok(fds)
    }

    /// What the link `fd/N` reads as: a path (see [`super::VmaName::Path`])
    /// or `KIND:[INODE]` or `anon_inode:KIND`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the descriptor is not open.
    pub fn fd_link(&self, fd: FdNum) -> Result<OsString, Error> {
        self.link(Entry::Fd(fd))
    }

    /// Opens the file behind descriptor `fd` once more: a new open file
    /// description, with `O_CLOEXEC` and the flags given. With `O_PATH`
    /// this works for every kind of file.
    ///
    /// # Errors
    ///
    /// `ENXIO` for a socket, and what `open(2)` says of the file.
    pub fn open_fd(&self, fd: FdNum, flags: OFlags) -> Result<OwnedFd, Error> {
        self.open_entry(Entry::Fd(fd), flags)
    }

    /// `fdinfo/N`. There can be a million items in an epoll, and only the first of them are told.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the descriptor is not open.
    pub fn fdinfo(&self, fd: FdNum) -> Result<FdInfo, Error> {
        let entry = Entry::FdInfo(fd);
        let file = self.open_entry(entry, OFlags::RDONLY)?;
        let mut bytes = Vec::with_capacity(8192);
        while self.read_more(&file, entry, &mut bytes)? {
            let first = &bytes[..bytes.len().min(4096)];
            if first.windows(5).any(|line| line == b"\ntfd:") {
                bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(0) + 1);
                break;
            }
        }
        FdInfo::parse(&bytes).map_err(|source| Error::Parse { entry, pid: self.pid, source })
    }

    /// All 16 resource limits.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn limits(&self) -> Result<Limits, Error> {
        self.parse(Entry::Named("limits"), Limits::parse)
    }

    /// Where the link `cwd` leads.
    ///
    /// # Errors
    ///
    /// `ENOENT` for a zombie.
    pub fn cwd(&self) -> Result<PathBuf, Error> {
        self.link(Entry::Named("cwd")).map(PathBuf::from)
    }

    /// Where the link `root` leads.
    ///
    /// # Errors
    ///
    /// `ENOENT` for a zombie.
    pub fn root(&self) -> Result<PathBuf, Error> {
        self.link(Entry::Named("root")).map(PathBuf::from)
    }

    /// Where the link `exe` leads; ` (deleted)` may be appended.
    ///
    /// # Errors
    ///
    /// `ENOENT` for a zombie or a kernel thread.
    pub fn exe(&self) -> Result<PathBuf, Error> {
        self.link(Entry::Named("exe")).map(PathBuf::from)
    }

    /// What any link reads as.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `EINVAL` if the entry is no link.
    pub fn link(&self, entry: Entry) -> Result<OsString, Error> {
        let name = readlinkat(&self.fd, entry.path().as_bytes(), Vec::with_capacity(128))
            .map_err(|source| self.failed(Operation::ReadLink, entry, source))?;
        Ok(OsString::from_vec(name.into_bytes()))
    }

    /// Opens any entry, with `O_CLOEXEC` and the flags given. Links are
    /// followed, to the very file, whatever its name is by now.
    ///
    /// # Errors
    ///
    /// What `open(2)` says.
    pub fn open_entry(&self, entry: Entry, flags: OFlags) -> Result<OwnedFd, Error> {
        openat(&self.fd, entry.path().as_bytes(), flags | ALWAYS, Mode::empty())
            .map_err(|source| self.failed(Operation::Open, entry, source))
    }

    /// All bytes of any entry.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn read(&self, entry: Entry) -> Result<Vec<u8>, Error> {
        let file = self.open_entry(entry, OFlags::RDONLY)?;
        // Nearly all files of /proc fit; the kernel hands out a page of a
        // long one at a time, whatever the size of the buffer.
        let mut bytes = Vec::with_capacity(8192);
        while self.read_more(&file, entry, &mut bytes)? {}
        Ok(bytes)
    }

    /// Appends what one call reads, and says whether there may be more.
    fn read_more(&self, file: &OwnedFd, entry: Entry, bytes: &mut Vec<u8>) -> Result<bool, Error> {
        if bytes.capacity() - bytes.len() < 4096 {
            bytes.reserve(bytes.capacity());
        }
        let room = bytes.capacity() - bytes.len();
        match rustix::io::read(file, spare_capacity(bytes)) {
            Ok(0) => Ok(false),
            Ok(read) => Ok(!entry.ends_with(read, room)),
            Err(Errno::INTR) => Ok(true),
            Err(source) => Err(self.failed(Operation::Read, entry, source)),
        }
    }

    pub(super) fn parse<T>(
        &self,
        entry: Entry,
        parser: impl FnOnce(&[u8]) -> Result<T, ParseError>,
    ) -> Result<T, Error> {
        let bytes = self.read(entry)?;
        parser(&bytes).map_err(|source| Error::Parse { entry, pid: self.pid, source })
    }

    /// The same for a file of one thread of the process. No directory is opened
    /// for it: threads there can be many.
    pub(super) fn parse_of<T>(
        &self,
        tid: HostPid,
        name: &'static str,
        parser: impl FnOnce(&[u8]) -> Result<T, ParseError>,
    ) -> Result<T, Error> {
        let entry = Entry::OfTask(tid, name);
        match self.parse(entry, parser) {
            Err(Error::Gone { .. }) => Err(Error::Gone { pid: tid }),
            Err(Error::Io { source: Errno::NOENT | Errno::SRCH | Errno::INVAL, .. })
                if !self.has(Entry::Task(tid)) =>
            {
                Err(Error::Gone { pid: tid })
            }
            parsed => parsed,
        }
    }

    /// The entries of a directory that are numbers.
    fn numbers(&self, dir: &'static str, mut each: impl FnMut(u32)) -> Result<(), Error> {
        self.names(dir, |name| {
            // "." and ".." are none.
            if let Ok(number) = name.parse() {
                each(number);
            }
        })
    }

    /// The entries of a directory, all of which are ASCII in `/proc/PID`.
    pub(super) fn names(&self, dir: &'static str, mut each: impl FnMut(&str)) -> Result<(), Error> {
        let entry = Entry::Named(dir);
        let fd = self.open_entry(entry, OFlags::DIRECTORY)?;
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(found) = entries.next() {
            let found = found.map_err(|source| self.failed(Operation::List, entry, source))?;
            if let Ok(name) = found.file_name().to_str() {
                each(name);
            }
        }
        Ok(())
    }

    pub(super) fn failed(&self, operation: Operation, entry: Entry, source: Errno) -> Error {
        // A task that has gone answers ESRCH or ENOENT, but so do a zombie
        // and a descriptor that is closed.
        match source {
            Errno::SRCH | Errno::NOENT | Errno::INVAL if self.is_gone() => {
                Error::Gone { pid: self.pid }
            }
            source => Error::Io { operation, entry, pid: self.pid, source },
        }
    }
}

impl AsFd for ProcDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
