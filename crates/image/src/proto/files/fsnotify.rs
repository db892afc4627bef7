//! Inotify and fanotify, file handles, and the cache of inode paths: `irmap-cache`.

use crate::proto::files::FownEntry;

/// `inotify_file_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InotifyFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "4")]
    pub fown: FownEntry,
    #[prost(message, repeated, tag = "5")]
    pub wd: Vec<InotifyWdEntry>,
    /// Extension: there were events that nobody had read.
    #[prost(bool, optional, tag = "20001")]
    pub lost_events: Option<bool>,
    /// Extension: the number that the next watch gets, if it is not the one behind the last.
    #[prost(uint32, optional, tag = "20002")]
    pub next_wd: Option<u32>,
}

/// A watch (`inotify_wd_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InotifyWdEntry {
    /// File id of the inotify.
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Watched inode.
    #[prost(uint64, required, tag = "2")]
    pub i_ino: u64,
    /// `IN_*`.
    #[prost(uint32, required, tag = "3")]
    pub mask: u32,
    /// Always 0.
    #[prost(uint32, required, tag = "4")]
    pub ignored_mask: u32,
    /// Its device, kernel encoding.
    #[prost(uint32, required, tag = "5")]
    pub s_dev: u32,
    /// Watch descriptor.
    #[prost(uint32, required, tag = "6")]
    pub wd: u32,
    #[prost(message, required, tag = "7")]
    pub f_handle: FhEntry,
    /// Extension: an open file on the inode, which has no path any more.
    #[prost(uint32, optional, tag = "20001")]
    pub target: Option<u32>,
}

/// What a fanotify mark is on (`mark_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum MarkType {
    Inode = 1,
    Mount = 2,
    /// Extension: a whole file system, which [`FanotifyMarkEntry::me`] leads to.
    FileSystem = 20_001,
}

/// `fanotify_file_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FanotifyFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "3")]
    pub fown: FownEntry,
    /// `FAN_*` of fanotify_init(2).
    #[prost(uint32, required, tag = "4")]
    pub faflags: u32,
    /// `O_*` of the descriptors in events.
    #[prost(uint32, required, tag = "5")]
    pub evflags: u32,
    #[prost(message, repeated, tag = "6")]
    pub mark: Vec<FanotifyMarkEntry>,
    /// Extension: there were events that nobody had read.
    #[prost(bool, optional, tag = "20001")]
    pub lost_events: Option<bool>,
    /// Extension: who made it had no privilege (`CAP_SYS_ADMIN`).
    #[prost(bool, optional, tag = "20002")]
    pub unprivileged: Option<bool>,
}

/// `fanotify_mark_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FanotifyMarkEntry {
    /// File id of the fanotify.
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// A [`MarkType`] (CRIU: `type`).
    #[prost(enumeration = "MarkType", required, tag = "2")]
    pub kind: i32,
    /// `FAN_MARK_*`.
    #[prost(uint32, required, tag = "3")]
    pub mflags: u32,
    #[prost(uint32, required, tag = "4")]
    pub mask: u32,
    #[prost(uint32, required, tag = "5")]
    pub ignored_mask: u32,
    /// Device, kernel encoding.
    #[prost(uint32, required, tag = "6")]
    pub s_dev: u32,
    /// Of an inode mark.
    #[prost(message, optional, tag = "7")]
    pub ie: Option<FanotifyInodeMarkEntry>,
    /// Of a mount mark.
    #[prost(message, optional, tag = "8")]
    pub me: Option<FanotifyMountMarkEntry>,
}

/// `fanotify_inode_mark_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FanotifyInodeMarkEntry {
    #[prost(uint64, required, tag = "1")]
    pub i_ino: u64,
    #[prost(message, required, tag = "2")]
    pub f_handle: FhEntry,
    /// Extension: an open file on the inode, which has no path any more.
    #[prost(uint32, optional, tag = "20001")]
    pub target: Option<u32>,
}

/// `fanotify_mount_mark_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FanotifyMountMarkEntry {
    #[prost(uint32, required, tag = "1")]
    pub mnt_id: u32,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub path: Option<Vec<u8>>,
}

/// A file handle (`fh_entry`), name_to_handle_at(2).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FhEntry {
    /// `handle_bytes`.
    #[prost(uint32, required, tag = "1")]
    pub bytes: u32,
    /// `handle_type` (CRIU: `type`).
    #[prost(uint32, required, tag = "2")]
    pub kind: u32,
    /// The handle in 64-bit words, padded with zeroes to 16 of them.
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub handle: Vec<u64>,
    /// Where the inode was found.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub path: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "5")]
    pub mnt_id: Option<u32>,
}

/// An entry of `irmap-cache` (`irmap_cache_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IrmapCacheEntry {
    /// Device, the old encoding.
    #[prost(uint32, required, tag = "1")]
    pub dev: u32,
    #[prost(uint64, required, tag = "2")]
    pub inode: u64,
    #[prost(bytes = "vec", required, tag = "3")]
    pub path: Vec<u8>,
}
