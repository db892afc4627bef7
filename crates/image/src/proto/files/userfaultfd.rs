//! Userfaultfds. Only dormouse has them: no number here is CRIU's.

use super::FownEntry;

/// A userfaultfd (`struct userfaultfd_ctx`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UserfaultfdFileEntry {
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// `O_*`.
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    #[prost(message, required, tag = "3")]
    pub fown: FownEntry,
    /// `UFFD_USER_MODE_ONLY`.
    #[prost(bool, required, tag = "4")]
    pub user_mode_only: bool,
    /// `UFFD_FEATURE_*`, once it is in use.
    #[prost(uint64, optional, tag = "5")]
    pub features: Option<u64>,
    /// A task that has the memory it is about; none if nobody has any more.
    #[prost(uint32, optional, tag = "6")]
    pub task: Option<u32>,
    /// What is registered with it.
    #[prost(message, repeated, tag = "7")]
    pub ranges: Vec<RegisteredRangeEntry>,
}

/// Memory that is registered.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisteredRangeEntry {
    #[prost(uint64, required, tag = "1")]
    pub start: u64,
    #[prost(uint64, required, tag = "2")]
    pub end: u64,
    /// `UFFDIO_REGISTER_MODE_*`.
    #[prost(uint64, required, tag = "3")]
    pub modes: u64,
    /// Start and end of what is write-protected in it,
    #[prost(uint64, repeated, tag = "4")]
    pub protected: Vec<u64>,
    /// and of what is mapped of the file, where that matters.
    #[prost(uint64, repeated, tag = "5")]
    pub mapped: Vec<u64>,
}
