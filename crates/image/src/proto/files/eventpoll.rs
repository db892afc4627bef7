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
    /// Dormouse: the state the items are in; absent: as just added.
    #[prost(message, optional, tag = "20000")]
    pub state: Option<EventpollStateEntry>,
}

/// Dormouse: what an epoll is in the middle of.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EventpollStateEntry {
    /// Indices into [`EventpollFileEntry::tfd`]: the pending items, first to be reported first.
    #[prost(uint32, repeated, packed = "false", tag = "1")]
    pub pending: Vec<u32>,
    #[prost(message, optional, tag = "2")]
    pub busy_poll: Option<BusyPollEntry>,
}

/// Dormouse: see ioctl_eventpoll(2).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BusyPollEntry {
    #[prost(uint32, required, tag = "1")]
    pub usecs: u32,
    #[prost(uint32, required, tag = "2")]
    pub budget: u32,
    #[prost(bool, required, tag = "3")]
    pub prefer: bool,
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
    /// Dormouse: the process whose signals the target, a signalfd, is watched for.
    #[prost(uint32, optional, tag = "20003")]
    pub adder: Option<u32>,
    /// Dormouse: file id of the target.
    #[prost(uint32, optional, tag = "20000")]
    pub target: Option<u32>,
    /// Dormouse: the number in the item's key, if `tfd` is another number of the target.
    #[prost(uint32, optional, tag = "20001")]
    pub number: Option<u32>,
    /// Dormouse: how many items of the target were added before this one and are still there.
    #[prost(uint32, optional, tag = "20002")]
    pub seniority: Option<u32>,
}
