//! Files with a path, and how to get at those whose path is gone: `remap-fpath.img`,
//! `ghost-file-ID.img`.

use crate::proto::files::FownEntry;

/// `reg_file_entry`: an open with a path: files, directories, device nodes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// `O_*`, without `O_CLOEXEC`.
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    /// Offset in bytes.
    #[prost(uint64, required, tag = "3")]
    pub pos: u64,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "5")]
    pub fown: FownEntry,
    /// Path in the mount namespace, from its root; of an external file its key.
    #[prost(bytes = "vec", required, tag = "6")]
    pub name: Vec<u8>,
    /// [`MntEntry::mnt_id`](crate::proto::namespace::mnt::MntEntry::mnt_id) it was opened on.
    #[prost(sint32, optional, tag = "7", default = "-1")]
    pub mnt_id: Option<i32>,
    /// Bytes at the dump; a restore refuses a file that differs.
    #[prost(uint64, optional, tag = "8")]
    pub size: Option<u64>,
    /// The file is on an external mount, or looked after by a plugin.
    #[prost(bool, optional, tag = "9")]
    pub ext: Option<bool>,
    /// `st_mode` at the dump.
    #[prost(uint32, optional, tag = "10")]
    pub mode: Option<u32>,
    /// GNU build id, in 32-bit words.
    #[prost(uint32, repeated, packed = "false", tag = "11")]
    pub build_id: Vec<u32>,
    /// This and the next two: unused by CRIU 4.
    #[prost(uint32, optional, tag = "12")]
    pub checksum: Option<u32>,
    #[prost(uint32, optional, tag = "13")]
    pub checksum_config: Option<u32>,
    #[prost(uint32, optional, tag = "14")]
    pub checksum_parameter: Option<u32>,
    /// Dormouse: the path it was opened by, which it has lost; `name` is another of its names.
    #[prost(bytes = "vec", optional, tag = "20000")]
    pub lost_name: Option<Vec<u8>>,
    /// Dormouse: where the proc is mounted in which the file is about a task that lives.
    #[prost(bytes = "vec", optional, tag = "20001")]
    pub proc_mount: Option<Vec<u8>>,
    /// Dormouse: it tells of changes until it is read, and has been since the last.
    #[prost(bool, optional, tag = "20002")]
    pub seen: Option<bool>,
    /// Dormouse: when the task began that it is about and that is not of the tree, in ticks of the
    /// clock since the system did.
    #[prost(uint64, optional, tag = "20003")]
    pub task_start: Option<u64>,
    /// Dormouse: what it watches the pressure on the system for, if it is a file of that: as it was
    /// written.
    #[prost(string, optional, tag = "20004")]
    pub pressure: Option<String>,
}

/// How a file without a path is reached (`remap_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum RemapType {
    Linked = 0,
    Ghost = 1,
    Procfs = 2,
}

/// An entry of `remap-fpath.img` (`remap_file_path_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RemapFilePathEntry {
    /// The file without a path.
    #[prost(uint32, required, tag = "1")]
    pub orig_id: u32,
    /// By type: file id of the link that was made; id of the ghost file; pid of a dead
    /// process whose /proc directory is open.
    #[prost(uint32, required, tag = "2")]
    pub remap_id: u32,
    /// A [`RemapType`]. Absent: a ghost if bit 31 of `remap_id` is set, else a link.
    #[prost(enumeration = "RemapType", optional, tag = "3")]
    pub remap_type: Option<i32>,
}

/// First message of `ghost-file-ID.img` (`ghost_file_entry`), with the id in hexadecimal. The
/// rest of the image is the file's contents; or, with `chunks`, [`GhostChunkEntry`]s.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GhostFileEntry {
    #[prost(uint32, required, tag = "1")]
    pub uid: u32,
    #[prost(uint32, required, tag = "2")]
    pub gid: u32,
    /// `st_mode`.
    #[prost(uint32, required, tag = "3")]
    pub mode: u32,
    /// Device the file was on, kernel encoding.
    #[prost(uint32, optional, tag = "4")]
    pub dev: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    pub ino: Option<u64>,
    /// Of a device node.
    #[prost(uint32, optional, tag = "6")]
    pub rdev: Option<u32>,
    #[prost(message, optional, tag = "7")]
    pub atim: Option<Timeval>,
    #[prost(message, optional, tag = "8")]
    pub mtim: Option<Timeval>,
    /// The contents are stored in chunks, holes left out.
    #[prost(bool, optional, tag = "9")]
    pub chunks: Option<bool>,
    /// Bytes, with `chunks`.
    #[prost(uint64, optional, tag = "10")]
    pub size: Option<u64>,
    /// Of a symbolic link.
    #[prost(bytes = "vec", optional, tag = "11")]
    pub symlnk_target: Option<Vec<u8>>,
    /// Dormouse: nanoseconds (0 to 999) beyond `atim`, which is in microseconds.
    #[prost(uint32, optional, tag = "20000")]
    pub atim_nsec: Option<u32>,
    /// Dormouse: nanoseconds (0 to 999) beyond `mtim`.
    #[prost(uint32, optional, tag = "20001")]
    pub mtim_nsec: Option<u32>,
    /// Dormouse: extended attributes.
    #[prost(message, repeated, tag = "20002")]
    pub xattrs: Vec<XattrEntry>,
}

/// Dormouse: an extended attribute.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct XattrEntry {
    #[prost(bytes = "vec", required, tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub value: Vec<u8>,
}

/// `ghost_chunk_entry`; `len` raw bytes follow it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GhostChunkEntry {
    #[prost(uint64, required, tag = "1")]
    pub len: u64,
    /// Offset in the file in bytes.
    #[prost(uint64, required, tag = "2")]
    pub off: u64,
}

/// `timeval`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Timeval {
    #[prost(uint64, required, tag = "1")]
    pub tv_sec: u64,
    #[prost(uint64, required, tag = "2")]
    pub tv_usec: u64,
}
