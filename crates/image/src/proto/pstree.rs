//! The process tree: `pstree.img`.

/// One process of `pstree.img` (`pstree_entry`); parents come before their children.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PstreeEntry {
    /// Pid in the root task's pid namespace.
    #[prost(uint32, required, tag = "1")]
    pub pid: u32,
    /// 0 for the root task.
    #[prost(uint32, required, tag = "2")]
    pub ppid: u32,
    #[prost(uint32, required, tag = "3")]
    pub pgid: u32,
    #[prost(uint32, required, tag = "4")]
    pub sid: u32,
    /// Tids of all threads, the leader among them. Empty for a zombie in some versions.
    #[prost(uint32, repeated, packed = "false", tag = "5")]
    pub threads: Vec<u32>,
}
