//! Files some plugin or the user looks after.

use crate::proto::files::FownEntry;

/// `ext_file_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExtFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "5")]
    pub fown: FownEntry,
}
