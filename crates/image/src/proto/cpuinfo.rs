//! The CPU of the dump: `cpuinfo.img`.

/// `vendor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum CpuVendor {
    Unknown = 0,
    Intel = 1,
    Amd = 2,
}

/// `cpuinfo_entry`: one for each kind of CPU.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CpuinfoEntry {
    #[prost(message, repeated, tag = "1")]
    pub x86_entry: Vec<CpuinfoX86Entry>,
}

/// `cpuinfo_x86_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CpuinfoX86Entry {
    #[prost(enumeration = "CpuVendor", required, tag = "1")]
    pub vendor_id: i32,
    #[prost(uint32, required, tag = "2")]
    pub cpu_family: u32,
    #[prost(uint32, required, tag = "3")]
    pub model: u32,
    #[prost(uint32, required, tag = "4")]
    pub stepping: u32,
    #[prost(uint32, required, tag = "5")]
    pub capability_ver: u32,
    /// CPUID feature words, in the order of `capability_ver`.
    #[prost(uint32, repeated, packed = "false", tag = "6")]
    pub capability: Vec<u32>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub model_id: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "8")]
    pub xfeatures_mask: Option<u64>,
    /// Bytes.
    #[prost(uint32, optional, tag = "9")]
    pub xsave_size: Option<u32>,
    /// Bytes.
    #[prost(uint32, optional, tag = "10")]
    pub xsave_size_max: Option<u32>,
}
