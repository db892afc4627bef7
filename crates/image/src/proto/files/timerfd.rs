//! Timerfds.

use crate::proto::files::FownEntry;

/// `timerfd_entry`: time left (`v`) and interval (`i`) in seconds and nanoseconds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TimerfdEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "3")]
    pub fown: FownEntry,
    #[prost(uint32, required, tag = "4")]
    pub clockid: u32,
    /// Expirations nobody has read.
    #[prost(uint64, required, tag = "5")]
    pub ticks: u64,
    /// `TFD_TIMER_*`.
    #[prost(uint32, required, tag = "6")]
    pub settime_flags: u32,
    #[prost(uint64, required, tag = "7")]
    pub vsec: u64,
    #[prost(uint64, required, tag = "8")]
    pub vnsec: u64,
    #[prost(uint64, required, tag = "9")]
    pub isec: u64,
    #[prost(uint64, required, tag = "10")]
    pub insec: u64,
    /// Extension: the moment of the next expiration, of a timer that was set
    /// by the wall clock; seconds.
    #[prost(uint64, optional, tag = "20001")]
    pub moment_sec: Option<u64>,
    /// And nanoseconds.
    #[prost(uint64, optional, tag = "20002")]
    pub moment_nsec: Option<u64>,
}
