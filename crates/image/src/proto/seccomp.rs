//! Seccomp filters of the whole tree: `seccomp.img`.

/// `seccomp_filter`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SeccompFilter {
    /// `struct sock_filter`s, 8 bytes each.
    #[prost(bytes = "vec", required, tag = "1")]
    pub filter: Vec<u8>,
    /// Index of the filter installed before this one.
    #[prost(uint32, optional, tag = "2")]
    pub prev: Option<u32>,
    /// `SECCOMP_FILTER_FLAG_*`.
    #[prost(uint32, optional, tag = "3")]
    pub flags: Option<u32>,
}

/// The one message of `seccomp.img` (`seccomp_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SeccompEntry {
    #[prost(message, repeated, tag = "1")]
    pub seccomp_filters: Vec<SeccompFilter>,
}
