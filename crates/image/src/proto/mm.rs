//! An address space: `mm-PID.img`.

/// The one message of `mm-PID.img` (`mm_entry`). Addresses as in `struct prctl_mm_map`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MmEntry {
    #[prost(uint64, required, tag = "1")]
    pub mm_start_code: u64,
    #[prost(uint64, required, tag = "2")]
    pub mm_end_code: u64,
    #[prost(uint64, required, tag = "3")]
    pub mm_start_data: u64,
    #[prost(uint64, required, tag = "4")]
    pub mm_end_data: u64,
    #[prost(uint64, required, tag = "5")]
    pub mm_start_stack: u64,
    #[prost(uint64, required, tag = "6")]
    pub mm_start_brk: u64,
    #[prost(uint64, required, tag = "7")]
    pub mm_brk: u64,
    #[prost(uint64, required, tag = "8")]
    pub mm_arg_start: u64,
    #[prost(uint64, required, tag = "9")]
    pub mm_arg_end: u64,
    #[prost(uint64, required, tag = "10")]
    pub mm_env_start: u64,
    #[prost(uint64, required, tag = "11")]
    pub mm_env_end: u64,
    /// File id of `/proc/PID/exe`.
    #[prost(uint32, required, tag = "12")]
    pub exe_file_id: u32,
    /// `/proc/PID/auxv`, tags and values in turn.
    #[prost(uint64, repeated, packed = "false", tag = "13")]
    pub mm_saved_auxv: Vec<u64>,
    #[prost(message, repeated, tag = "14")]
    pub vmas: Vec<VmaEntry>,
    /// `PR_GET_DUMPABLE`.
    #[prost(int32, optional, tag = "15")]
    pub dumpable: Option<i32>,
    /// Rings of io_setup(2).
    #[prost(message, repeated, tag = "16")]
    pub aios: Vec<AioRingEntry>,
    #[prost(bool, optional, tag = "17")]
    pub thp_disabled: Option<bool>,
    /// Dormouse: what is mapped from now on is locked: `MCL_FUTURE`, with `MCL_ONFAULT` or not.
    #[prost(uint32, optional, tag = "20000")]
    pub future_locks: Option<u32>,
    /// Dormouse: `PR_GET_MEMORY_MERGE`.
    #[prost(bool, optional, tag = "20001")]
    pub merge: Option<bool>,
    /// Dormouse: whether advised memory may have huge pages all the same
    /// (`PR_THP_DISABLE_EXCEPT_ADVISED`), if `thp_disabled` is true.
    #[prost(bool, optional, tag = "20002")]
    pub thp_if_advised: Option<bool>,
}

/// One mapping (`vma_entry`), in ascending order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VmaEntry {
    /// First address.
    #[prost(uint64, required, tag = "1")]
    pub start: u64,
    /// First address behind it.
    #[prost(uint64, required, tag = "2")]
    pub end: u64,
    /// Offset in the file or shared memory object, in **bytes**.
    #[prost(uint64, required, tag = "3")]
    pub pgoff: u64,
    /// By kind: file id of the mapped file; id of the shared memory object (`pagemap-shmem-ID.img`);
    /// id of a System V segment; else 0.
    #[prost(uint64, required, tag = "4")]
    pub shmid: u64,
    /// `PROT_*`.
    #[prost(uint32, required, tag = "5")]
    pub prot: u32,
    /// `MAP_*`.
    #[prost(uint32, required, tag = "6")]
    pub flags: u32,
    /// What it is, see [`vma_status`](crate::proto::vma_status).
    #[prost(uint32, required, tag = "7")]
    pub status: u32,
    /// Always -1.
    #[prost(sint64, required, tag = "8")]
    pub fd: i64,
    /// Bit n set: `madvise(n)` was given.
    #[prost(uint64, optional, tag = "9")]
    pub madv: Option<u64>,
    /// Open flags the mapped file needs.
    #[prost(uint32, optional, tag = "10")]
    pub fdflags: Option<u32>,
    /// Dormouse: what the kernel knows of a mapping and CRIU loses, see
    /// [`vma_extra`](crate::proto::vma_extra). Absent in an image of CRIU.
    #[prost(uint32, optional, tag = "20000")]
    pub extra: Option<u32>,
    /// Dormouse: `PR_SET_VMA_ANON_NAME`.
    #[prost(bytes = "vec", optional, tag = "20001")]
    pub name: Option<Vec<u8>>,
}

/// `aio_ring_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AioRingEntry {
    /// The context, which is the ring's address.
    #[prost(uint64, required, tag = "1")]
    pub id: u64,
    /// Requests it holds.
    #[prost(uint32, required, tag = "2")]
    pub nr_req: u32,
    /// Bytes mapped.
    #[prost(uint32, required, tag = "3")]
    pub ring_len: u32,
}
