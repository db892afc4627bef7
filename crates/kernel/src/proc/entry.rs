//! The entries of `/proc/PID`.

use crate::{AddrRange, FdNum, HostPid};
use std::fmt::{self, Write as _};

/// An entry of the directory of a task. It prints as its path below
/// `/proc/PID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry {
    /// An entry with a fixed name, such as `status` or `ns/mnt`. `.` is the
    /// directory itself.
    Named(&'static str),
    /// `task/TID`.
    Task(HostPid),
    /// `task/TID/children`.
    Children(HostPid),
    /// Another entry below `task/TID`.
    OfTask(HostPid, &'static str),
    /// `fd/N`.
    Fd(FdNum),
    /// `fdinfo/N`.
    FdInfo(FdNum),
    /// `map_files/START-END`.
    MapFile(AddrRange),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Task(tid) => write!(f, "task/{tid}"),
            Self::Children(tid) => write!(f, "task/{tid}/children"),
            Self::OfTask(tid, name) => write!(f, "task/{tid}/{name}"),
            Self::Fd(fd) => write!(f, "fd/{fd}"),
            Self::FdInfo(fd) => write!(f, "fdinfo/{fd}"),
            // The kernel takes neither prefix nor leading zeros here
            // (dname_to_vma_addr in fs/proc/base.c).
            Self::MapFile(range) => {
                write!(f, "map_files/{:x}-{:x}", range.start().as_raw(), range.end().as_raw())
            }
        }
    }
}

/// Files that the kernel puts together as a whole whenever they are read
/// (`single_open`, `simple_read_from_buffer`; `fs/proc/base.c`): what is read
/// ends where the file does, unless the buffer was too small.
const WHOLE: [&str; 9] = [
    "stat",
    "status",
    "syscall",
    "limits",
    "auxv",
    "loginuid",
    "oom_score_adj",
    "coredump_filter",
    "autogroup",
];

/// Of other files it puts as much together as goes into a page
/// (`seq_read_iter` in `fs/seq_file.c`).
const PAGE: usize = 4096;
/// The longest line of `children` is shorter.
const CHILD: usize = 16;

impl Entry {
    /// Whether nothing comes after `read` bytes, for which there was `room`.
    pub(super) fn ends_with(self, read: usize, room: usize) -> bool {
        match self {
            Self::Named(name) | Self::OfTask(_, name) => read < room && WHOLE.contains(&name),
            Self::FdInfo(_) => read < room,
            Self::Children(_) => read < room.min(PAGE - CHILD),
            Self::Task(_) | Self::Fd(_) | Self::MapFile(_) => false,
        }
    }

    pub(super) fn path(self) -> EntryPath {
        let mut path = EntryPath { bytes: [0; EntryPath::MAX], len: 0 };
        write!(path, "{self}").expect("the longest entry fits");
        path
    }
}

/// The path of an entry, on the stack: ten thousand descriptors are looked
/// up in one go.
pub(super) struct EntryPath {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl EntryPath {
    /// `map_files/` and two numbers of 16 digits are 43 bytes.
    const MAX: usize = 48;

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Write for EntryPath {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len + s.len();
        let free = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        free.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Entry;
    use crate::{Addr, AddrRange, FdNum, HostPid};

    #[test]
    fn the_longest_paths_fit() {
        let pid = HostPid::from_raw(i32::MAX).unwrap();
        assert_eq!(Entry::Children(pid).path().as_bytes(), b"task/2147483647/children");
        let fd = FdNum::from_raw(u32::MAX);
        assert_eq!(Entry::FdInfo(fd).path().as_bytes(), b"fdinfo/4294967295");
        let top = Addr::from_raw(u64::MAX);
        assert_eq!(
            Entry::MapFile(AddrRange::new(top, top).unwrap()).path().as_bytes(),
            b"map_files/ffffffffffffffff-ffffffffffffffff"
        );
        assert_eq!(
            Entry::MapFile(AddrRange::new(Addr::NULL, top).unwrap()).to_string(),
            "map_files/0-ffffffffffffffff"
        );
    }
}
