//! Rings of io_uring. Only dormouse has them: no number here is CRIU's.

use super::FownEntry;

/// A ring (`struct io_ring_ctx`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IoUringFileEntry {
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// `O_*`.
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    #[prost(message, required, tag = "3")]
    pub fown: FownEntry,
    /// `IORING_SETUP_*`.
    #[prost(uint32, required, tag = "4")]
    pub setup: u32,
    /// Places for requests,
    #[prost(uint32, required, tag = "5")]
    pub sq_entries: u32,
    /// and for completions.
    #[prost(uint32, required, tag = "6")]
    pub cq_entries: u32,
    /// How many requests it has taken, as far as 32 bits count.
    #[prost(uint32, required, tag = "7")]
    pub taken: u32,
    /// How many completions it has given.
    #[prost(uint32, required, tag = "8")]
    pub given: u32,
    /// Where things are in its memory: head, tail and flags of the submission queue, the array;
    /// head and tail of the completion queue, completions.
    #[prost(uint32, repeated, tag = "9")]
    pub places: Vec<u32>,
    /// Both queues, without zeros at the end.
    #[prost(bytes = "vec", required, tag = "10")]
    pub rings: Vec<u8>,
    /// The requests, without zeros at the end.
    #[prost(bytes = "vec", required, tag = "11")]
    pub requests: Vec<u8>,
    /// The task that submits, if only one does.
    #[prost(uint32, optional, tag = "12")]
    pub submitter: Option<u32>,
    /// What waits, in the order of their data.
    #[prost(message, repeated, tag = "13")]
    pub waiting: Vec<IoUringRequestEntry>,
    /// The files that are registered with it.
    #[prost(message, optional, tag = "14")]
    pub registered: Option<IoUringRegisteredEntry>,
}

/// Files that are registered with a ring.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IoUringRegisteredEntry {
    /// A task that uses the ring.
    #[prost(uint32, required, tag = "1")]
    pub task: u32,
    /// How many places there are.
    #[prost(uint32, required, tag = "2")]
    pub len: u32,
    /// Those that are taken.
    #[prost(message, repeated, tag = "3")]
    pub files: Vec<IoUringPlaceEntry>,
    /// An eventfd that counts completions,
    #[prost(uint32, optional, tag = "4")]
    pub eventfd: Option<u32>,
    /// of requests that did not complete at once.
    #[prost(bool, optional, tag = "5")]
    pub late: Option<bool>,
}

/// A place that is taken.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IoUringPlaceEntry {
    /// Its number.
    #[prost(uint32, required, tag = "1")]
    pub place: u32,
    /// The file there.
    #[prost(uint32, required, tag = "2")]
    pub file: u32,
}

/// A request that waits (`struct io_uring_sqe`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IoUringRequestEntry {
    /// Who has made it.
    #[prost(uint32, required, tag = "1")]
    pub task: u32,
    /// The file that it is about.
    #[prost(uint32, optional, tag = "2")]
    pub file: Option<u32>,
    /// `IORING_OP_*`.
    #[prost(uint32, required, tag = "3")]
    pub operation: u32,
    /// `IOSQE_*`.
    #[prost(uint32, required, tag = "4")]
    pub flags: u32,
    /// And so on, as in the structure.
    #[prost(uint32, required, tag = "5")]
    pub priority: u32,
    #[prost(uint64, required, tag = "6")]
    pub offset: u64,
    #[prost(uint64, required, tag = "7")]
    pub address: u64,
    #[prost(uint32, required, tag = "8")]
    pub len: u32,
    #[prost(uint32, required, tag = "9")]
    pub operation_flags: u32,
    #[prost(uint64, required, tag = "10")]
    pub data: u64,
    /// Of a timeout: how much is left, or the moment, if its flags say so.
    #[prost(uint64, optional, tag = "11")]
    pub seconds: Option<u64>,
    #[prost(uint32, optional, tag = "12")]
    pub nanos: Option<u32>,
    /// Of a poll that tells many times: what it has told of, and is still there (`POLL*`).
    #[prost(uint32, optional, tag = "13")]
    pub told: Option<u32>,
}
