//! What the directory as a whole says: `inventory.img`.

use crate::proto::core::TaskKobjIdsEntry;
use crate::proto::keys::KeysEntry;

/// Security module the profile names belong to (`lsmtype`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum LsmType {
    None = 0,
    SeLinux = 1,
    AppArmor = 2,
}

/// `plugins_entry`: wrapped so that "no plugins" differs from "not said".
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PluginsEntry {
    #[prost(bytes = "vec", repeated, tag = "12")]
    pub plugins: Vec<Vec<u8>>,
}

/// `inventory.img` (`inventory_entry`), the one image without the common magic.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InventoryEntry {
    /// Format of the directory: 2 (with a common magic in each image) is today's; see
    /// [`crate::magic::IMAGES_VERSION`].
    #[prost(uint32, required, tag = "1")]
    pub img_version: u32,
    /// `fdinfo-ID.img` is named by fd table id, not by pid. CRIU refuses `false`.
    #[prost(bool, optional, tag = "2")]
    pub fdinfo_per_id: Option<bool>,
    /// Kernel objects of the process that asked for the dump: what the root task shares with it
    /// (a namespace with the same id) is not restored.
    #[prost(message, optional, tag = "3")]
    pub root_ids: Option<TaskKobjIdsEntry>,
    /// Namespace images are named by namespace id, not by pid.
    #[prost(bool, optional, tag = "4")]
    pub ns_per_id: Option<bool>,
    /// Control group set of the dumper; never 0.
    #[prost(uint32, optional, tag = "5")]
    pub root_cg_set: Option<u32>,
    #[prost(enumeration = "LsmType", optional, tag = "6")]
    pub lsmtype: Option<i32>,
    /// Microseconds since boot at the dump (/proc/uptime); tells a reused pid from an old one in a pre-dump chain.
    #[prost(uint64, optional, tag = "8")]
    pub dump_uptime: Option<u64>,
    /// 1 splice, 2 read.
    #[prost(uint32, optional, tag = "9")]
    pub pre_dump_mode: Option<u32>,
    #[prost(bool, optional, tag = "10")]
    pub tcp_close: Option<bool>,
    /// 0 iptables, 1 nftables, 2 skip. Absent: iptables.
    #[prost(uint32, optional, tag = "11")]
    pub network_lock_method: Option<u32>,
    #[prost(message, optional, tag = "12")]
    pub plugins_entry: Option<PluginsEntry>,
    /// Names the nftables table that locks the connections.
    #[prost(bytes = "vec", optional, tag = "13")]
    pub dump_criu_run_id: Option<Vec<u8>>,
    /// Dumped with `--allow-uprobes`: the restore must be allowed them too.
    #[prost(bool, optional, tag = "14")]
    pub allow_uprobes: Option<bool>,
    /// Dormouse: the keys that tasks possess; absent means that nothing is known of them.
    #[prost(message, optional, tag = "20001")]
    pub keys: Option<KeysEntry>,
}
