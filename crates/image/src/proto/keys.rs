//! Keys that tasks possess (inside `inventory.img`); only dormouse keeps them.

/// All keys that can be reached from keyrings of tasks.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeysEntry {
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<KeyEntry>,
}

/// A key, or a keyring.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyEntry {
    /// Its serial number at the dump.
    #[prost(uint32, tag = "1")]
    pub serial: u32,
    /// `keyring`, `user`, `logon`.
    #[prost(bytes = "vec", tag = "2")]
    pub kind: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub description: Vec<u8>,
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    /// All ones for none.
    #[prost(uint32, tag = "5")]
    pub gid: u32,
    /// As `keyctl_setperm(3)` takes it.
    #[prost(uint32, tag = "6")]
    pub permissions: u32,
    /// When it expires, in seconds since 1970; absent means never.
    #[prost(uint64, optional, tag = "7")]
    pub expiry: Option<u64>,
    #[prost(bool, tag = "8")]
    pub revoked: bool,
    /// The kernel keeps the keyring for its user, whoever has it.
    #[prost(bool, tag = "9")]
    pub standing: bool,
    /// What is in it, unless it is a keyring or has been revoked.
    #[prost(bytes = "vec", tag = "10")]
    pub payload: Vec<u8>,
    /// The serial numbers of what is in a keyring, ascending.
    #[prost(uint32, repeated, tag = "11")]
    pub links: Vec<u32>,
}

/// Which keyrings a thread has, by serial numbers; absent means none.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyringsEntry {
    #[prost(uint32, optional, tag = "1")]
    pub session: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    pub process: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub thread: Option<u32>,
    /// Where requested keys go, `KEY_REQKEY_DEFL_*`.
    #[prost(uint32, tag = "4")]
    pub requested: u32,
}
