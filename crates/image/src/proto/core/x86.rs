//! Registers of an x86 task (64 and 32 bit).

/// Width of the registers (`user_x86_regs_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum UserX86RegsMode {
    Native = 1,
    Compat = 2,
}

/// `thread_info_x86`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ThreadInfoX86 {
    /// `PR_GET_TID_ADDRESS`.
    #[prost(uint64, required, tag = "1")]
    pub clear_tid_addr: u64,
    #[prost(message, required, tag = "2")]
    pub gpregs: UserX86RegsEntry,
    #[prost(message, required, tag = "3")]
    pub fpregs: UserX86FpregsEntry,
    /// The three TLS slots of the GDT, `PTRACE_GET_THREAD_AREA`.
    #[prost(message, repeated, tag = "4")]
    pub tls: Vec<UserDesc>,
}

/// `user_x86_regs_entry`: `struct user_regs_struct`, 32-bit registers zero-extended.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UserX86RegsEntry {
    #[prost(uint64, required, tag = "1")]
    pub r15: u64,
    #[prost(uint64, required, tag = "2")]
    pub r14: u64,
    #[prost(uint64, required, tag = "3")]
    pub r13: u64,
    #[prost(uint64, required, tag = "4")]
    pub r12: u64,
    #[prost(uint64, required, tag = "5")]
    pub bp: u64,
    #[prost(uint64, required, tag = "6")]
    pub bx: u64,
    #[prost(uint64, required, tag = "7")]
    pub r11: u64,
    #[prost(uint64, required, tag = "8")]
    pub r10: u64,
    #[prost(uint64, required, tag = "9")]
    pub r9: u64,
    #[prost(uint64, required, tag = "10")]
    pub r8: u64,
    #[prost(uint64, required, tag = "11")]
    pub ax: u64,
    #[prost(uint64, required, tag = "12")]
    pub cx: u64,
    #[prost(uint64, required, tag = "13")]
    pub dx: u64,
    #[prost(uint64, required, tag = "14")]
    pub si: u64,
    #[prost(uint64, required, tag = "15")]
    pub di: u64,
    #[prost(uint64, required, tag = "16")]
    pub orig_ax: u64,
    #[prost(uint64, required, tag = "17")]
    pub ip: u64,
    #[prost(uint64, required, tag = "18")]
    pub cs: u64,
    #[prost(uint64, required, tag = "19")]
    pub flags: u64,
    #[prost(uint64, required, tag = "20")]
    pub sp: u64,
    #[prost(uint64, required, tag = "21")]
    pub ss: u64,
    #[prost(uint64, required, tag = "22")]
    pub fs_base: u64,
    #[prost(uint64, required, tag = "23")]
    pub gs_base: u64,
    #[prost(uint64, required, tag = "24")]
    pub ds: u64,
    #[prost(uint64, required, tag = "25")]
    pub es: u64,
    #[prost(uint64, required, tag = "26")]
    pub fs: u64,
    #[prost(uint64, required, tag = "27")]
    pub gs: u64,
    /// A [`UserX86RegsMode`].
    #[prost(enumeration = "UserX86RegsMode", optional, tag = "28", default = "Native")]
    pub mode: Option<i32>,
}

/// `user_x86_fpregs_entry`: the legacy area of FXSAVE.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UserX86FpregsEntry {
    #[prost(uint32, required, tag = "1")]
    pub cwd: u32,
    #[prost(uint32, required, tag = "2")]
    pub swd: u32,
    /// The abridged tag word.
    #[prost(uint32, required, tag = "3")]
    pub twd: u32,
    #[prost(uint32, required, tag = "4")]
    pub fop: u32,
    #[prost(uint64, required, tag = "5")]
    pub rip: u64,
    #[prost(uint64, required, tag = "6")]
    pub rdp: u64,
    #[prost(uint32, required, tag = "7")]
    pub mxcsr: u32,
    #[prost(uint32, required, tag = "8")]
    pub mxcsr_mask: u32,
    /// 8 registers of 16 bytes, as 32 words.
    #[prost(uint32, repeated, packed = "false", tag = "9")]
    pub st_space: Vec<u32>,
    /// 16 registers of 16 bytes, as 64 words.
    #[prost(uint32, repeated, packed = "false", tag = "10")]
    pub xmm_space: Vec<u32>,
    /// 24 words which CRIU writes and nobody reads.
    #[prost(uint32, repeated, packed = "false", tag = "11")]
    pub padding: Vec<u32>,
    /// State beyond the legacy area.
    #[prost(message, optional, tag = "13")]
    pub xsave: Option<UserX86XsaveEntry>,
}

/// `user_x86_xsave_entry`: components of the XSAVE area, in its standard format.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UserX86XsaveEntry {
    /// Components which are not in their initial state.
    #[prost(uint64, required, tag = "1")]
    pub xstate_bv: u64,
    /// Upper halves of ymm0-15, 64 words.
    #[prost(uint32, repeated, packed = "false", tag = "2")]
    pub ymmh_space: Vec<u32>,
    /// MPX bounds, 8 words.
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub bndreg_state: Vec<u64>,
    /// MPX configuration and status, 8 words.
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    pub bndcsr_state: Vec<u64>,
    /// k0-k7.
    #[prost(uint64, repeated, packed = "false", tag = "5")]
    pub opmask_reg: Vec<u64>,
    /// Upper halves of zmm0-15, 64 words.
    #[prost(uint64, repeated, packed = "false", tag = "6")]
    pub zmm_upper: Vec<u64>,
    /// zmm16-31, 128 words.
    #[prost(uint64, repeated, packed = "false", tag = "7")]
    pub hi16_zmm: Vec<u64>,
    /// Protection keys: PKRU and padding, 2 words.
    #[prost(uint32, repeated, packed = "false", tag = "8")]
    pub pkru: Vec<u32>,
    /// User shadow stack.
    #[prost(message, optional, tag = "9")]
    pub cet: Option<UserX86CetEntry>,
    /// Extension: components that have no field above.
    #[prost(message, repeated, tag = "20001")]
    pub others: Vec<XsaveComponentEntry>,
}

/// Extension: one component of the XSAVE area, in the standard format.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct XsaveComponentEntry {
    /// Its number, which is its bit in XCR0.
    #[prost(uint32, required, tag = "1")]
    pub index: u32,
    /// Its bytes.
    #[prost(bytes = "vec", required, tag = "2")]
    pub contents: Vec<u8>,
}

/// `user_x86_cet_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UserX86CetEntry {
    /// `IA32_U_CET`.
    #[prost(uint64, required, tag = "1")]
    pub cet: u64,
    /// Shadow stack pointer.
    #[prost(uint64, required, tag = "2")]
    pub ssp: u64,
}

/// `user_desc_t`: `struct user_desc` of set_thread_area(2).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UserDesc {
    #[prost(uint32, required, tag = "1")]
    pub entry_number: u32,
    #[prost(uint32, required, tag = "2")]
    pub base_addr: u32,
    #[prost(uint32, required, tag = "3")]
    pub limit: u32,
    #[prost(bool, required, tag = "4")]
    pub seg_32bit: bool,
    #[prost(bool, required, tag = "5")]
    pub contents_h: bool,
    #[prost(bool, required, tag = "6")]
    pub contents_l: bool,
    #[prost(bool, required, tag = "7", default = "true")]
    pub read_exec_only: bool,
    #[prost(bool, required, tag = "8")]
    pub limit_in_pages: bool,
    #[prost(bool, required, tag = "9", default = "true")]
    pub seg_not_present: bool,
    /// CRIU: the slot is in use.
    #[prost(bool, required, tag = "10")]
    pub usable: bool,
}
