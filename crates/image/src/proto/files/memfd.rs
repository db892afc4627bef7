//! Memfds; their inodes are in `memfd.img`.

use crate::proto::files::FownEntry;
use crate::proto::files::reg::{GhostChunkEntry, Timeval, XattrEntry};

/// `memfd_file_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MemfdFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    #[prost(uint64, required, tag = "3")]
    pub pos: u64,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "4")]
    pub fown: FownEntry,
    /// [`MemfdInodeEntry::inode_id`].
    #[prost(uint32, required, tag = "5")]
    pub inode_id: u32,
}

/// An entry of `memfd.img` (`memfd_inode_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MemfdInodeEntry {
    /// As given to memfd_create(2).
    #[prost(bytes = "vec", required, tag = "1")]
    pub name: Vec<u8>,
    #[prost(uint32, required, tag = "2")]
    pub uid: u32,
    #[prost(uint32, required, tag = "3")]
    pub gid: u32,
    /// Bytes.
    #[prost(uint64, required, tag = "4")]
    pub size: u64,
    /// Contents are in `pagemap-shmem-ID.img`.
    #[prost(uint32, required, tag = "5")]
    pub shmid: u32,
    /// `F_SEAL_*`.
    #[prost(uint32, required, tag = "6")]
    pub seals: u32,
    #[prost(uint64, required, tag = "7")]
    pub inode_id: u64,
    /// `MFD_HUGE_*`.
    #[prost(uint32, optional, tag = "8")]
    pub hugetlb_flag: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub mode: Option<u32>,
    /// Dormouse: when it was accessed and modified last.
    #[prost(message, optional, tag = "20000")]
    pub atim: Option<Timeval>,
    #[prost(message, optional, tag = "20001")]
    pub mtim: Option<Timeval>,
    /// Dormouse: nanoseconds (0 to 999) beyond those, which are in microseconds.
    #[prost(uint32, optional, tag = "20002")]
    pub atim_nsec: Option<u32>,
    #[prost(uint32, optional, tag = "20003")]
    pub mtim_nsec: Option<u32>,
    /// Dormouse: extended attributes.
    #[prost(message, repeated, tag = "20004")]
    pub xattrs: Vec<XattrEntry>,
    /// Dormouse: parts that are allocated and were never written, even behind the end.
    #[prost(message, repeated, tag = "20005")]
    pub allocated: Vec<GhostChunkEntry>,
}
