//! Working directory, root and umask: `fs-PID.img`.

/// The one message of `fs-PID.img` (`fs_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FsEntry {
    /// File id of the working directory.
    #[prost(uint32, required, tag = "1")]
    pub cwd_id: u32,
    /// File id of the root.
    #[prost(uint32, required, tag = "2")]
    pub root_id: u32,
    #[prost(uint32, optional, tag = "3")]
    pub umask: Option<u32>,
}
