//! Id mappings: `userns-ID.img`.

/// `userns_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UsernsEntry {
    #[prost(message, repeated, tag = "1")]
    pub uid_map: Vec<UidGidExtent>,
    #[prost(message, repeated, tag = "2")]
    pub gid_map: Vec<UidGidExtent>,
}

/// A line of `/proc/PID/uid_map` (`uid_gid_extent`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UidGidExtent {
    #[prost(uint32, required, tag = "1")]
    pub first: u32,
    #[prost(uint32, required, tag = "2")]
    pub lower_first: u32,
    #[prost(uint32, required, tag = "3")]
    pub count: u32,
}
