//! Registers of an arm64 task.

/// `thread_info_aarch64`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ThreadInfoAarch64 {
    #[prost(uint64, required, tag = "1")]
    pub clear_tid_addr: u64,
    /// `tpidr_el0`.
    #[prost(uint64, required, tag = "2")]
    pub tls: u64,
    #[prost(message, required, tag = "3")]
    pub gpregs: UserAarch64RegsEntry,
    #[prost(message, required, tag = "4")]
    pub fpsimd: UserAarch64FpsimdContextEntry,
    #[prost(message, optional, tag = "5")]
    pub pac_keys: Option<PacKeys>,
}

/// `user_aarch64_regs_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UserAarch64RegsEntry {
    /// x0-x30.
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub regs: Vec<u64>,
    #[prost(uint64, required, tag = "2")]
    pub sp: u64,
    #[prost(uint64, required, tag = "3")]
    pub pc: u64,
    #[prost(uint64, required, tag = "4")]
    pub pstate: u64,
}

/// `user_aarch64_fpsimd_context_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UserAarch64FpsimdContextEntry {
    /// v0-v31, two words each, low word first.
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub vregs: Vec<u64>,
    #[prost(uint32, required, tag = "2")]
    pub fpsr: u32,
    #[prost(uint32, required, tag = "3")]
    pub fpcr: u32,
}

/// Pointer authentication keys (`pac_keys`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PacKeys {
    #[prost(message, optional, tag = "6")]
    pub pac_address_keys: Option<PacAddressKeys>,
    #[prost(message, optional, tag = "7")]
    pub pac_generic_keys: Option<PacGenericKeys>,
}

/// `NT_ARM_PACA_KEYS` (`pac_address_keys`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PacAddressKeys {
    #[prost(uint64, required, tag = "1")]
    pub apiakey_lo: u64,
    #[prost(uint64, required, tag = "2")]
    pub apiakey_hi: u64,
    #[prost(uint64, required, tag = "3")]
    pub apibkey_lo: u64,
    #[prost(uint64, required, tag = "4")]
    pub apibkey_hi: u64,
    #[prost(uint64, required, tag = "5")]
    pub apdakey_lo: u64,
    #[prost(uint64, required, tag = "6")]
    pub apdakey_hi: u64,
    #[prost(uint64, required, tag = "7")]
    pub apdbkey_lo: u64,
    #[prost(uint64, required, tag = "8")]
    pub apdbkey_hi: u64,
    /// `PR_PAC_GET_ENABLED_KEYS`.
    #[prost(uint64, required, tag = "9")]
    pub pac_enabled_key: u64,
}

/// `NT_ARM_PACG_KEYS` (`pac_generic_keys`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PacGenericKeys {
    #[prost(uint64, required, tag = "1")]
    pub apgakey_lo: u64,
    #[prost(uint64, required, tag = "2")]
    pub apgakey_hi: u64,
}
