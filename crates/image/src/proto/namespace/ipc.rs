//! System V IPC: `ipcns-var-ID.img`, `ipcns-shm-ID.img`, `ipcns-msg-ID.img`,
//! `ipcns-sem-ID.img`.

/// `ipc_desc_entry`: `struct ipc_perm`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IpcDescEntry {
    #[prost(uint32, required, tag = "1")]
    pub key: u32,
    #[prost(uint32, required, tag = "2")]
    pub uid: u32,
    #[prost(uint32, required, tag = "3")]
    pub gid: u32,
    #[prost(uint32, required, tag = "4")]
    pub cuid: u32,
    #[prost(uint32, required, tag = "5")]
    pub cgid: u32,
    #[prost(uint32, required, tag = "6")]
    pub mode: u32,
    #[prost(uint32, required, tag = "7")]
    pub id: u32,
}

/// The one message of `ipcns-var-ID.img` (`ipc_var_entry`), sysctls of the namespace.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IpcVarEntry {
    /// The four numbers of `kernel.sem`.
    #[prost(uint32, repeated, packed = "false", tag = "1")]
    pub sem_ctls: Vec<u32>,
    #[prost(uint32, required, tag = "2")]
    pub msg_ctlmax: u32,
    #[prost(uint32, required, tag = "3")]
    pub msg_ctlmnb: u32,
    #[prost(uint32, required, tag = "4")]
    pub msg_ctlmni: u32,
    #[prost(uint32, required, tag = "5")]
    pub auto_msgmni: u32,
    #[prost(uint64, required, tag = "6")]
    pub shm_ctlmax: u64,
    #[prost(uint64, required, tag = "7")]
    pub shm_ctlall: u64,
    #[prost(uint32, required, tag = "8")]
    pub shm_ctlmni: u32,
    #[prost(uint32, required, tag = "9")]
    pub shm_rmid_forced: u32,
    #[prost(uint32, required, tag = "10")]
    pub mq_queues_max: u32,
    #[prost(uint32, required, tag = "11")]
    pub mq_msg_max: u32,
    #[prost(uint32, required, tag = "12")]
    pub mq_msgsize_max: u32,
    #[prost(uint32, optional, tag = "13")]
    pub mq_msg_default: Option<u32>,
    #[prost(uint32, optional, tag = "14")]
    pub mq_msgsize_default: Option<u32>,
    #[prost(uint32, optional, tag = "15")]
    pub msg_next_id: Option<u32>,
    #[prost(uint32, optional, tag = "16")]
    pub sem_next_id: Option<u32>,
    #[prost(uint32, optional, tag = "17")]
    pub shm_next_id: Option<u32>,
}

/// `ipc_shm_entry`. Without `in_pagemaps` the contents follow, padded to 4 bytes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IpcShmEntry {
    #[prost(message, required, tag = "1")]
    pub desc: IpcDescEntry,
    /// Bytes.
    #[prost(uint64, required, tag = "2")]
    pub size: u64,
    /// Contents are in `pagemap-shmem-ID.img`.
    #[prost(bool, optional, tag = "3")]
    pub in_pagemaps: Option<bool>,
    #[prost(uint32, optional, tag = "4")]
    pub hugetlb_flag: Option<u32>,
    /// Dormouse: the ID of `pagemap-shmem-ID.img`, if it is not that of the segment.
    #[prost(uint32, optional, tag = "20000")]
    pub contents: Option<u32>,
    /// Dormouse: the key it was made with, which maps shows even when `desc` has none any more.
    #[prost(uint32, optional, tag = "20001")]
    pub made_with_key: Option<u32>,
}

/// A message queue (`ipc_msg_entry`); `qnum` messages follow it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IpcMsgEntry {
    #[prost(message, required, tag = "1")]
    pub desc: IpcDescEntry,
    /// `msg_qbytes`.
    #[prost(uint32, required, tag = "2")]
    pub qbytes: u32,
    #[prost(uint32, required, tag = "3")]
    pub qnum: u32,
}

/// `ipc_msg`; its `msize` bytes follow it, padded to 8.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IpcMsg {
    #[prost(uint64, required, tag = "1")]
    pub mtype: u64,
    #[prost(uint32, required, tag = "2")]
    pub msize: u32,
}

/// A semaphore set (`ipc_sem_entry`); its values (16 bits each) follow it, padded to 8 bytes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IpcSemEntry {
    #[prost(message, required, tag = "1")]
    pub desc: IpcDescEntry,
    #[prost(uint32, required, tag = "2")]
    pub nsems: u32,
}
