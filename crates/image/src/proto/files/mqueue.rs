//! POSIX message queues. Only dormouse has them: no number here is CRIU's.

use super::FownEntry;

/// An open file description on a queue.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MqueueFileEntry {
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// `O_*`.
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    #[prost(message, required, tag = "3")]
    pub fown: FownEntry,
    /// The queue: [`MqueueEntry::id`].
    #[prost(uint32, required, tag = "4")]
    pub queue: u32,
    /// How far its status was read, by `read(2)`.
    #[prost(uint64, optional, tag = "5")]
    pub pos: Option<u64>,
    /// The directory that it was opened in, if not by `mq_open(2)`.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub directory: Option<Vec<u8>>,
}

/// A queue in `mqueue.img`; the bytes of its messages follow.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MqueueEntry {
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Without a slash.
    #[prost(bytes = "vec", required, tag = "2")]
    pub name: Vec<u8>,
    /// It has lost the name.
    #[prost(bool, optional, tag = "3")]
    pub unlinked: Option<bool>,
    /// Permissions.
    #[prost(uint32, required, tag = "4")]
    pub mode: u32,
    #[prost(uint32, required, tag = "5")]
    pub uid: u32,
    #[prost(uint32, required, tag = "6")]
    pub gid: u32,
    /// Who its memory is charged to.
    #[prost(uint32, required, tag = "7")]
    pub user: u32,
    /// `mq_maxmsg`.
    #[prost(uint64, required, tag = "8")]
    pub max_messages: u64,
    /// `mq_msgsize`.
    #[prost(uint64, required, tag = "9")]
    pub max_len: u64,
    /// Of the messages, in the order in which they are received: their priorities,
    #[prost(uint32, repeated, tag = "10")]
    pub priorities: Vec<u32>,
    /// and how many bytes each has.
    #[prost(uint32, repeated, tag = "11")]
    pub lens: Vec<u32>,
    #[prost(message, optional, tag = "12")]
    pub notify: Option<MqueueNotifyEntry>,
}

/// Who is told when a message arrives (`mq_notify(2)`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MqueueNotifyEntry {
    /// The process,
    #[prost(uint32, required, tag = "1")]
    pub pid: u32,
    /// and a descriptor it has on the queue.
    #[prost(uint32, required, tag = "2")]
    pub fd: u32,
    /// `SIGEV_*`.
    #[prost(uint32, required, tag = "3")]
    pub how: u32,
    /// The signal, or the descriptor of a netlink socket.
    #[prost(uint32, required, tag = "4")]
    pub number: u32,
    /// `sigev_value`, of a signal.
    #[prost(uint64, required, tag = "5")]
    pub value: u64,
    /// What the socket is sent.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub cookie: Option<Vec<u8>>,
}
