//! Clock offsets: `timens-ID.img`.

/// `timespec`: signed numbers in two's complement.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Timespec {
    #[prost(uint64, required, tag = "1")]
    pub tv_sec: u64,
    #[prost(uint64, required, tag = "2")]
    pub tv_nsec: u64,
}

/// `timens_entry`: what the clocks showed at the dump.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TimensEntry {
    #[prost(message, required, tag = "1")]
    pub monotonic: Timespec,
    #[prost(message, required, tag = "2")]
    pub boottime: Timespec,
}
