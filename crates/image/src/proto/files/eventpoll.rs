//! Epolls.

use crate::proto::files::FownEntry;

/// `eventpoll_file_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EventpollFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "3")]
    pub fown: FownEntry,
    #[prost(message, repeated, tag = "4")]
    pub tfd: Vec<EventpollTfdEntry>,
}

/// One watched file (`eventpoll_tfd_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EventpollTfdEntry {
    /// 0; the epoll's file id in images of CRIU before 3.3.
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Number the item is registered under.
    #[prost(uint32, required, tag = "2")]
    pub tfd: u32,
    /// `EPOLL*`.
    #[prost(uint32, required, tag = "3")]
    pub events: u32,
    /// The user's 64 bits.
    #[prost(uint64, required, tag = "4")]
    pub data: u64,
    /// Device of the target, kernel encoding.
    #[prost(uint32, optional, tag = "5")]
    pub dev: Option<u32>,
    /// Inode of the target.
    #[prost(uint64, optional, tag = "6")]
    pub inode: Option<u64>,
    /// Offset of the target.
    #[prost(uint64, optional, tag = "7")]
    pub pos: Option<u64>,
}
