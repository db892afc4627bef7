//! Unix sockets.

use crate::proto::files::FownEntry;
use crate::proto::files::socket::{SkOptsEntry, SkShutdown};

/// `unix_sk_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnixSkEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Inode, by which peers name each other.
    #[prost(uint32, required, tag = "2")]
    pub ino: u32,
    /// `SOCK_*` (CRIU: `type`).
    #[prost(uint32, required, tag = "3")]
    pub kind: u32,
    /// `TCP_*` state.
    #[prost(uint32, required, tag = "4")]
    pub state: u32,
    /// `O_*`.
    #[prost(uint32, required, tag = "5")]
    pub flags: u32,
    /// 1 external peer, 2 CRIU's own service socket, 4 a plugin's, 8 inherited.
    #[prost(uint32, required, tag = "6")]
    pub uflags: u32,
    #[prost(uint32, required, tag = "7")]
    pub backlog: u32,
    /// Inode of the peer, 0 for none.
    #[prost(uint32, required, tag = "8")]
    pub peer: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "9")]
    pub fown: FownEntry,
    #[prost(message, required, tag = "10")]
    pub opts: SkOptsEntry,
    /// Address: a path with its NUL, or an abstract name that begins with one.
    #[prost(bytes = "vec", required, tag = "11")]
    pub name: Vec<u8>,
    /// A [`SkShutdown`].
    #[prost(enumeration = "SkShutdown", optional, tag = "12")]
    pub shutdown: Option<i32>,
    /// Of the socket's inode.
    #[prost(message, optional, tag = "13")]
    pub file_perms: Option<FilePermsEntry>,
    /// Directory a relative path starts from.
    #[prost(bytes = "vec", optional, tag = "14")]
    pub name_dir: Option<Vec<u8>>,
    /// The path was unlinked.
    #[prost(bool, optional, tag = "15")]
    pub deleted: Option<bool>,
    /// Network namespace.
    #[prost(uint32, optional, tag = "16")]
    pub ns_id: Option<u32>,
    #[prost(sint32, optional, tag = "17", default = "-1")]
    pub mnt_id: Option<i32>,
    /// Dormouse: what CRIU does not tell; absent in its images.
    #[prost(message, optional, tag = "20000")]
    pub dormouse: Option<UnixStateEntry>,
}

/// Dormouse: more of a unix socket.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnixStateEntry {
    /// The inode it is bound to, which accepted sockets share with the one that listened.
    #[prost(uint32, optional, tag = "1")]
    pub file_inode: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    pub file_device: Option<u32>,
    /// Where that inode is, if its name does not lead there.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub path: Option<Vec<u8>>,
    /// Address of a peer that has closed; present if there was one.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub closed_peer: Option<Vec<u8>>,
    /// Inodes of those who wait to be accepted, first to be accepted first.
    /// Zero: it has closed.
    #[prost(uint32, repeated, packed = "false", tag = "5")]
    pub waiting: Vec<u32>,
    /// `SO_PEERCRED`.
    #[prost(message, optional, tag = "6")]
    pub peer_cred: Option<UnixCredEntry>,
    /// Who connects it, if it waits to be accepted.
    #[prost(message, optional, tag = "7")]
    pub connector: Option<UnixCredEntry>,
    /// `SO_PEEK_OFF`.
    #[prost(sint32, optional, tag = "8")]
    pub peek_off: Option<i32>,
    /// `ECONNRESET` is yet to be told.
    #[prost(bool, optional, tag = "9")]
    pub reset: Option<bool>,
    /// What is known of each of those who wait, if it was read.
    #[prost(message, repeated, tag = "10")]
    pub unaccepted: Vec<UnixWaitingEntry>,
    /// File ids of datagram sockets that wait until it can be sent to, who began to wait first first.
    #[prost(uint32, repeated, packed = "false", tag = "11")]
    pub told: Vec<u32>,
}

/// Dormouse: who waits to be accepted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnixWaitingEntry {
    /// Its address, if it has closed.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub closed: Option<Vec<u8>>,
    /// Who has connected it.
    #[prost(message, optional, tag = "2")]
    pub cred: Option<UnixCredEntry>,
    /// What it has sent, first to be read first.
    #[prost(message, repeated, tag = "3")]
    pub sent: Vec<UnixSentEntry>,
}

/// Dormouse: what was sent before anybody could read it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnixSentEntry {
    #[prost(message, required, tag = "1")]
    pub packet: super::socket::SkPacketEntry,
    #[prost(bytes = "vec", required, tag = "2")]
    pub bytes: Vec<u8>,
}

/// Dormouse: a process as its peers see it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UnixCredEntry {
    #[prost(int32, required, tag = "1")]
    pub pid: i32,
    #[prost(uint32, required, tag = "2")]
    pub uid: u32,
    #[prost(uint32, required, tag = "3")]
    pub gid: u32,
    /// `SO_PEERGROUPS`.
    #[prost(uint32, repeated, packed = "false", tag = "4")]
    pub groups: Vec<u32>,
}

/// `file_perms_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FilePermsEntry {
    #[prost(uint32, required, tag = "1")]
    pub mode: u32,
    #[prost(uint32, required, tag = "2")]
    pub uid: u32,
    #[prost(uint32, required, tag = "3")]
    pub gid: u32,
}
