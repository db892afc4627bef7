//! Pid namespaces given from outside: `pidns-ID.img`.

/// `pidns_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PidnsEntry {
    /// Key of `--external pid[inode]:key`.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub ext_key: Option<Vec<u8>>,
}
