//! Mounts: `mountpoints-ID.img`, `autofs-ID.img`, `binfmt-misc.img`.

/// File system of a mount, as CRIU numbers them (`fstype`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum FsType {
    Unsupported = 0,
    Proc = 1,
    Sysfs = 2,
    Devtmpfs = 3,
    BinfmtMisc = 4,
    Tmpfs = 5,
    Devpts = 6,
    Simfs = 7,
    Pstore = 8,
    Securityfs = 9,
    Fusectl = 10,
    Debugfs = 11,
    Cgroup = 12,
    Aufs = 13,
    Mqueue = 14,
    Fuse = 15,
    Auto = 16,
    Overlayfs = 17,
    Autofs = 18,
    Tracefs = 19,
    Cgroup2 = 23,
}

/// A mount of `mountpoints-ID.img` (`mnt_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MntEntry {
    /// A [`FsType`].
    #[prost(uint32, required, tag = "1")]
    pub fstype: u32,
    #[prost(uint32, required, tag = "2")]
    pub mnt_id: u32,
    /// Device, kernel encoding.
    #[prost(uint32, required, tag = "3")]
    pub root_dev: u32,
    #[prost(uint32, required, tag = "4")]
    pub parent_mnt_id: u32,
    /// `MS_*` of the mount.
    #[prost(uint32, required, tag = "5")]
    pub flags: u32,
    #[prost(bytes = "vec", required, tag = "6")]
    pub root: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "7")]
    pub mountpoint: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "8")]
    pub source: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "9")]
    pub options: Vec<u8>,
    /// Peer group.
    #[prost(uint32, optional, tag = "10")]
    pub shared_id: Option<u32>,
    #[prost(uint32, optional, tag = "11")]
    pub master_id: Option<u32>,
    #[prost(bool, optional, tag = "12")]
    pub with_plugin: Option<bool>,
    #[prost(bool, optional, tag = "13")]
    pub ext_mount: Option<bool>,
    /// File system's name, of type [`FsType::Auto`].
    #[prost(bytes = "vec", optional, tag = "14")]
    pub fsname: Option<Vec<u8>>,
    /// Its peer group has no member outside.
    #[prost(bool, optional, tag = "15")]
    pub internal_sharing: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub deleted: Option<bool>,
    /// `MS_*` of the superblock.
    #[prost(uint32, optional, tag = "17")]
    pub sb_flags: Option<u32>,
    /// Key of `--external mnt[...]:key`.
    #[prost(bytes = "vec", optional, tag = "18")]
    pub ext_key: Option<Vec<u8>>,
}

/// `autofs_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AutofsEntry {
    #[prost(int32, required, tag = "1")]
    pub fd: i32,
    #[prost(int32, required, tag = "2")]
    pub pgrp: i32,
    /// Seconds.
    #[prost(int32, required, tag = "3")]
    pub timeout: i32,
    #[prost(int32, required, tag = "4")]
    pub minproto: i32,
    #[prost(int32, required, tag = "5")]
    pub maxproto: i32,
    #[prost(int32, required, tag = "6")]
    pub mode: i32,
    #[prost(int32, optional, tag = "7")]
    pub uid: Option<i32>,
    #[prost(int32, optional, tag = "8")]
    pub gid: Option<i32>,
    #[prost(int32, optional, tag = "9")]
    pub read_fd: Option<i32>,
}

/// A line of `binfmt-misc.img` (`binfmt_misc_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BinfmtMiscEntry {
    #[prost(bytes = "vec", required, tag = "1")]
    pub name: Vec<u8>,
    #[prost(bool, required, tag = "2")]
    pub enabled: bool,
    #[prost(bytes = "vec", required, tag = "3")]
    pub interpreter: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub flags: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub extension: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "6")]
    pub magic: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub mask: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "8")]
    pub offset: Option<i32>,
}
