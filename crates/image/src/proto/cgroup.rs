//! Control groups: `cgroup.img`.

/// The one message of `cgroup.img` (`cgroup_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CgroupEntry {
    #[prost(message, repeated, tag = "1")]
    pub sets: Vec<CgSetEntry>,
    #[prost(message, repeated, tag = "2")]
    pub controllers: Vec<CgControllerEntry>,
}

/// The groups of a task, one of each hierarchy (`cg_set_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CgSetEntry {
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    #[prost(message, repeated, tag = "2")]
    pub ctls: Vec<CgMemberEntry>,
}

/// `cg_member_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CgMemberEntry {
    /// Controllers, or `name=...`.
    #[prost(bytes = "vec", required, tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub path: Vec<u8>,
    /// Bytes of `path` that are above the cgroup namespace's root.
    #[prost(uint32, optional, tag = "3")]
    pub cgns_prefix: Option<u32>,
}

/// A hierarchy (`cg_controller_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CgControllerEntry {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub cnames: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "2")]
    pub dirs: Vec<CgroupDirEntry>,
    #[prost(bool, optional, tag = "3")]
    pub is_threaded: Option<bool>,
}

/// `cgroup_dir_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CgroupDirEntry {
    #[prost(bytes = "vec", required, tag = "1")]
    pub dir_name: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub children: Vec<CgroupDirEntry>,
    #[prost(message, repeated, tag = "3")]
    pub properties: Vec<CgroupPropEntry>,
    #[prost(message, optional, tag = "4")]
    pub dir_perms: Option<CgroupPerms>,
}

/// A control file (`cgroup_prop_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CgroupPropEntry {
    #[prost(bytes = "vec", required, tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub value: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    pub perms: Option<CgroupPerms>,
}

/// `cgroup_perms`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CgroupPerms {
    #[prost(uint32, required, tag = "1")]
    pub mode: u32,
    #[prost(uint32, required, tag = "2")]
    pub uid: u32,
    #[prost(uint32, required, tag = "3")]
    pub gid: u32,
}
