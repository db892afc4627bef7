//! Signalfds.

use crate::proto::files::FownEntry;

/// `signalfd_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SignalfdEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "3")]
    pub fown: FownEntry,
    /// Bit n-1 for signal n.
    #[prost(uint64, required, tag = "4")]
    pub sigmask: u64,
}
