//! Pidfds.

use crate::proto::files::FownEntry;

/// `pidfd_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PidfdEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Inode of the pidfd: equal numbers refer to one process.
    #[prost(uint32, required, tag = "2")]
    pub ino: u32,
    #[prost(uint32, required, tag = "3")]
    pub flags: u32,
    /// Pid it refers to, -1 when that process is dead.
    #[prost(int32, required, tag = "4")]
    pub nspid: i32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "5")]
    pub fown: FownEntry,
    /// Dormouse's own: the wait status of a dead process, if the kernel still tells it.
    #[prost(uint32, optional, tag = "1000")]
    pub status: Option<u32>,
}
