//! Namespace files (`/proc/PID/ns/*`).

use crate::proto::files::FownEntry;

/// `ns_file_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NsFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Id of the namespace.
    #[prost(uint32, required, tag = "2")]
    pub ns_id: u32,
    /// `CLONE_NEW*`.
    #[prost(uint32, required, tag = "3")]
    pub ns_cflag: u32,
    #[prost(uint32, required, tag = "4")]
    pub flags: u32,
    /// Dormouse: who gets the signal when I/O is possible.
    #[prost(message, optional, tag = "20000")]
    pub fown: Option<FownEntry>,
}
