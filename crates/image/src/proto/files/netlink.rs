//! Netlink sockets.

use crate::proto::files::FownEntry;
use crate::proto::files::socket::SkOptsEntry;

/// `netlink_sk_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NetlinkSkEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    #[prost(uint32, required, tag = "2")]
    pub ino: u32,
    #[prost(uint32, required, tag = "3")]
    pub protocol: u32,
    #[prost(uint32, required, tag = "4")]
    pub state: u32,
    #[prost(uint32, required, tag = "6")]
    pub flags: u32,
    #[prost(uint32, required, tag = "7")]
    pub portid: u32,
    /// Bitmap of memberships, 32-bit words.
    #[prost(uint32, repeated, packed = "false", tag = "8")]
    pub groups: Vec<u32>,
    #[prost(uint32, required, tag = "9")]
    pub dst_portid: u32,
    #[prost(uint32, required, tag = "10")]
    pub dst_group: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "11")]
    pub fown: FownEntry,
    #[prost(message, required, tag = "12")]
    pub opts: SkOptsEntry,
    #[prost(uint32, optional, tag = "13")]
    pub ns_id: Option<u32>,
    /// Dormouse: `SOCK_RAW` or `SOCK_DGRAM`, which differ by name only.
    #[prost(uint32, optional, tag = "20000")]
    pub kind: Option<u32>,
    /// Dormouse: switches that are on, `NETLINK_*`.
    #[prost(uint32, repeated, tag = "20001")]
    pub switches: Vec<u32>,
}
