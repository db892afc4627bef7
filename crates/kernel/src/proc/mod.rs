//! `/proc/PID`: the directory of a task, and parsers of its files.
//!
//! Parsers are pure functions over bytes, apart from reading. The kernel's
//! bytes are not UTF-8: names are `OsString`, and where the kernel escapes
//! bytes, that is undone.

mod cgroup;
mod dir;
mod entry;
mod error;
mod facts;
mod fdinfo;
mod limits;
mod maps;
mod mountinfo;
mod scan;
mod small;
mod stat;
mod status;
mod timers;

pub use cgroup::CgroupMembership;
pub use dir::ProcDir;
pub use entry::Entry;
pub use error::{Error, Operation};
pub use facts::{NamespaceId, NamespaceKind};
pub use fdinfo::{
    EpollItem, Extra, FanotifyMark, FanotifyObject, FdInfo, FileHandle, FileLock, InotifyWatch,
    LeaseState, LockKind, LockMode, PidfdTarget, TimerFd, Userfault,
};
pub use limits::Limits;
pub use maps::{Perms, Smap, VmFlags, Vma, VmaName, parse_maps, parse_smaps};
pub use mountinfo::{MountInfo, Propagation, parse_mountinfo};
pub use scan::ParseError;
pub use small::{AuxEntry, BlockedIn, IdMapping, TimeOffsets};
pub use stat::{MemoryLayout, Stat, TaskState};
pub use status::{Capabilities, IdSet, MemorySize, SeccompMode, Status};
pub use timers::{PosixTimer, TimerNotify};
