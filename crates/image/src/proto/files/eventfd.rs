//! Eventfds.

use crate::proto::files::FownEntry;

/// `eventfd_file_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EventfdFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// `O_*`.
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "3")]
    pub fown: FownEntry,
    #[prost(uint64, required, tag = "4")]
    pub counter: u64,
    /// Dormouse: `EFD_SEMAPHORE`.
    #[prost(bool, optional, tag = "20000")]
    pub semaphore: Option<bool>,
}
