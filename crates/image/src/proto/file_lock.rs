//! File locks: `filelocks.img`.

/// `file_lock_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FileLockEntry {
    /// 1 POSIX, 2 flock, 4 open file description, 8 lease.
    #[prost(uint32, required, tag = "1")]
    pub flag: u32,
    /// `F_RDLCK`, `F_WRLCK`, `F_UNLCK`; a lease being broken adds 4 (CRIU: `type`).
    #[prost(uint32, required, tag = "2")]
    pub kind: u32,
    /// Owner.
    #[prost(int32, required, tag = "3")]
    pub pid: i32,
    #[prost(int32, required, tag = "4")]
    pub fd: i32,
    #[prost(int64, required, tag = "5")]
    pub start: i64,
    /// Bytes.
    #[prost(int64, required, tag = "6")]
    pub len: i64,
}
