//! Tun and tap queues.

/// `tunfile_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TunfileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Interface; absent when not attached.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub netdev: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    pub detached: Option<bool>,
    #[prost(uint32, optional, tag = "4")]
    pub ns_id: Option<u32>,
    /// Dormouse: kind and features of the interface, `IFF_*` of `TUNSETIFF`.
    #[prost(uint32, optional, tag = "20000")]
    pub iff_flags: Option<u32>,
    /// Dormouse: bytes that may be on their way, `TUNGETSNDBUF`.
    #[prost(uint32, optional, tag = "20001")]
    pub sndbuf: Option<u32>,
    /// Dormouse: `TUNGETVNETHDRSZ`.
    #[prost(uint32, optional, tag = "20002")]
    pub vnethdr: Option<u32>,
    /// Dormouse: file id of the path it is opened by.
    #[prost(uint32, optional, tag = "20003")]
    pub regf_id: Option<u32>,
}

/// `tun_link_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TunLinkEntry {
    /// `IFF_*` of `TUNGETIFF`.
    #[prost(uint32, required, tag = "1")]
    pub flags: u32,
    /// Uid or -1.
    #[prost(int32, required, tag = "2")]
    pub owner: i32,
    /// Gid or -1.
    #[prost(int32, required, tag = "3")]
    pub group: i32,
    #[prost(uint32, required, tag = "4")]
    pub vnethdr: u32,
    #[prost(uint32, required, tag = "5")]
    pub sndbuf: u32,
}
