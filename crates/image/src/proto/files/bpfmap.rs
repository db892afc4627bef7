//! BPF maps; their contents are in `bpfmap-data.img`.

use crate::proto::files::FownEntry;

/// `bpfmap_file_entry`: `struct bpf_map_info`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BpfmapFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    #[prost(uint64, required, tag = "3")]
    pub pos: u64,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "4")]
    pub fown: FownEntry,
    #[prost(uint32, required, tag = "5")]
    pub map_type: u32,
    #[prost(uint32, required, tag = "6")]
    pub key_size: u32,
    #[prost(uint32, required, tag = "7")]
    pub value_size: u32,
    #[prost(uint32, required, tag = "8")]
    pub map_id: u32,
    #[prost(uint32, required, tag = "9")]
    pub max_entries: u32,
    #[prost(uint32, required, tag = "10")]
    pub map_flags: u32,
    /// Bytes.
    #[prost(uint64, required, tag = "11")]
    pub memlock: u64,
    #[prost(bool, required, tag = "12")]
    pub frozen: bool,
    #[prost(bytes = "vec", required, tag = "13")]
    pub map_name: Vec<u8>,
    #[prost(uint32, required, tag = "14")]
    pub ifindex: u32,
    #[prost(sint32, optional, tag = "15", default = "-1")]
    pub mnt_id: Option<i32>,
    #[prost(uint64, optional, tag = "16")]
    pub map_extra: Option<u64>,
}

/// `bpfmap_data_entry`; `keys_bytes`, then `values_bytes` raw bytes follow it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BpfmapDataEntry {
    #[prost(uint32, required, tag = "1")]
    pub map_id: u32,
    #[prost(uint32, required, tag = "2")]
    pub keys_bytes: u32,
    #[prost(uint32, required, tag = "3")]
    pub values_bytes: u32,
    /// Pairs.
    #[prost(uint32, required, tag = "4")]
    pub count: u32,
}
