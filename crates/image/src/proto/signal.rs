//! Signal actions and pending signals (inside `core-TID.img`).

/// `sa_entry`: the kernel's `struct sigaction`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SaEntry {
    /// Handler address, 0 default, 1 ignore.
    #[prost(uint64, required, tag = "1")]
    pub sigaction: u64,
    /// `SA_*`.
    #[prost(uint64, required, tag = "2")]
    pub flags: u64,
    #[prost(uint64, required, tag = "3")]
    pub restorer: u64,
    /// Bit n-1 for signal n.
    #[prost(uint64, required, tag = "4")]
    pub mask: u64,
    /// Set by a 32-bit task.
    #[prost(bool, optional, tag = "5")]
    pub compat_sigaction: Option<bool>,
    /// Signals 65 to 128; MIPS only.
    #[prost(uint64, optional, tag = "6")]
    pub mask_extended: Option<u64>,
}

/// `siginfo_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SiginfoEntry {
    /// The kernel's `siginfo_t`, 128 bytes.
    #[prost(bytes = "vec", required, tag = "1")]
    pub siginfo: Vec<u8>,
}

/// `signal_queue_entry`, oldest first.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SignalQueueEntry {
    #[prost(message, repeated, tag = "1")]
    pub signals: Vec<SiginfoEntry>,
}
