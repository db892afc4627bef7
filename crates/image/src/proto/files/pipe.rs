//! Pipes and fifos, and the bytes in them: `pipes-data.img`, `fifo-data.img`.

use crate::proto::files::FownEntry;

/// One end of a pipe (`pipe_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PipeEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Same number, same pipe.
    #[prost(uint32, required, tag = "2")]
    pub pipe_id: u32,
    /// `O_*`: which end, nonblocking, packet mode.
    #[prost(uint32, required, tag = "3")]
    pub flags: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "4")]
    pub fown: FownEntry,
}

/// `fifo_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FifoEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Same number, same fifo.
    #[prost(uint32, required, tag = "2")]
    pub pipe_id: u32,
    /// File id of the path it is opened by.
    #[prost(uint32, optional, tag = "3")]
    pub regf_id: Option<u32>,
    /// Dormouse: it can be read, has no writer, and has not met one yet: so it does not hang up.
    #[prost(bool, optional, tag = "20000")]
    pub no_hang_up: Option<bool>,
}

/// `pipe_data_entry`; `bytes` raw bytes follow it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PipeDataEntry {
    #[prost(uint32, required, tag = "1")]
    pub pipe_id: u32,
    #[prost(uint32, required, tag = "2")]
    pub bytes: u32,
    /// `F_GETPIPE_SZ` in bytes.
    #[prost(uint32, optional, tag = "3")]
    pub size: Option<u32>,
    /// Dormouse: how the bytes are divided, if they are not one stream.
    #[prost(message, repeated, tag = "20000")]
    pub runs: Vec<PipeRunEntry>,
}

/// Dormouse: bytes that are one packet (`O_DIRECT`), or that are a stream.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PipeRunEntry {
    #[prost(uint32, required, tag = "1")]
    pub bytes: u32,
    #[prost(bool, required, tag = "2")]
    pub packet: bool,
}
