//! Terminals: `tty-info.img`, `tty-data.img`.

use crate::proto::files::FownEntry;

/// Kind of terminal (`TtyType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum TtyType {
    Unknown = 0,
    Pty = 1,
    Console = 2,
    Vt = 3,
    Ctty = 4,
    ExtTty = 5,
    Serial = 6,
}

/// An open terminal (`tty_file_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TtyFileEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// [`TtyInfoEntry::id`].
    #[prost(uint32, required, tag = "2")]
    pub tty_info_id: u32,
    #[prost(uint32, required, tag = "3")]
    pub flags: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "4")]
    pub fown: FownEntry,
    /// File id of the path it is opened by.
    #[prost(uint32, optional, tag = "6")]
    pub regf_id: Option<u32>,
    /// Dormouse: of `/dev/tty`, the number of the device behind it, kernel encoding.
    #[prost(uint32, optional, tag = "20000")]
    pub real_rdev: Option<u32>,
}

/// An entry of `tty-info.img` (`tty_info_entry`): one terminal end.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TtyInfoEntry {
    /// Master and slave of a pair have an id each.
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// A [`TtyType`] (CRIU: `type`).
    #[prost(enumeration = "TtyType", required, tag = "2")]
    pub kind: i32,
    /// Pseudo terminals: `TIOCGPTLCK`.
    #[prost(bool, required, tag = "3")]
    pub locked: bool,
    /// `TIOCGEXCL`.
    #[prost(bool, required, tag = "4")]
    pub exclusive: bool,
    /// Pseudo terminals: `TIOCGPKT`.
    #[prost(bool, required, tag = "5")]
    pub packet_mode: bool,
    /// Session it controls, 0 for none.
    #[prost(uint32, required, tag = "6")]
    pub sid: u32,
    /// Foreground process group.
    #[prost(uint32, required, tag = "7")]
    pub pgrp: u32,
    /// Device number, kernel encoding.
    #[prost(uint32, required, tag = "8")]
    pub rdev: u32,
    #[prost(message, optional, tag = "9")]
    pub termios: Option<TermiosEntry>,
    #[prost(message, optional, tag = "10")]
    pub termios_locked: Option<TermiosEntry>,
    #[prost(message, optional, tag = "11")]
    pub winsize: Option<WinsizeEntry>,
    #[prost(message, optional, tag = "12")]
    pub pty: Option<TtyPtyEntry>,
    #[prost(uint32, optional, tag = "13")]
    pub dev: Option<u32>,
    #[prost(uint32, optional, tag = "14")]
    pub uid: Option<u32>,
    #[prost(uint32, optional, tag = "15")]
    pub gid: Option<u32>,
    /// Dormouse: of a master, that slaves have been open and none is any more: a reader sees a
    /// hang-up.
    #[prost(bool, optional, tag = "20000")]
    pub slaves_closed: Option<bool>,
    /// Dormouse: of a master, owner, group and `st_mode` of its slave's inode.
    #[prost(uint32, optional, tag = "20001")]
    pub slave_uid: Option<u32>,
    #[prost(uint32, optional, tag = "20002")]
    pub slave_gid: Option<u32>,
    #[prost(uint32, optional, tag = "20003")]
    pub slave_mode: Option<u32>,
    /// Dormouse: of a master, whether output of its slave is stopped: 1 by a character, 2 by
    /// `TCOOFF`.
    #[prost(uint32, optional, tag = "20004")]
    pub slave_stopped: Option<u32>,
    /// Dormouse: the same of the master itself.
    #[prost(uint32, optional, tag = "20005")]
    pub stopped: Option<u32>,
}

/// `tty_pty_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TtyPtyEntry {
    /// N of /dev/pts/N.
    #[prost(uint32, required, tag = "1")]
    pub index: u32,
}

/// `termios_entry`: `struct termios2`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TermiosEntry {
    #[prost(uint32, required, tag = "1")]
    pub c_iflag: u32,
    #[prost(uint32, required, tag = "2")]
    pub c_oflag: u32,
    #[prost(uint32, required, tag = "3")]
    pub c_cflag: u32,
    #[prost(uint32, required, tag = "4")]
    pub c_lflag: u32,
    #[prost(uint32, required, tag = "5")]
    pub c_line: u32,
    #[prost(uint32, required, tag = "6")]
    pub c_ispeed: u32,
    #[prost(uint32, required, tag = "7")]
    pub c_ospeed: u32,
    #[prost(uint32, repeated, packed = "false", tag = "8")]
    pub c_cc: Vec<u32>,
}

/// `winsize_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WinsizeEntry {
    #[prost(uint32, required, tag = "1")]
    pub ws_row: u32,
    #[prost(uint32, required, tag = "2")]
    pub ws_col: u32,
    #[prost(uint32, required, tag = "3")]
    pub ws_xpixel: u32,
    #[prost(uint32, required, tag = "4")]
    pub ws_ypixel: u32,
}

/// An entry of `tty-data.img` (`tty_data_entry`): what a pseudo terminal's buffer held.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TtyDataEntry {
    #[prost(uint32, required, tag = "1")]
    pub tty_id: u32,
    #[prost(bytes = "vec", required, tag = "2")]
    pub data: Vec<u8>,
    /// Dormouse: where in `data` a line ends that is read as a whole.
    #[prost(uint32, repeated, packed = "false", tag = "20000")]
    pub line_ends: Vec<u32>,
    /// Dormouse: what follows `data` and has not been through the line discipline.
    #[prost(bytes = "vec", optional, tag = "20001")]
    pub waiting: Option<Vec<u8>>,
}
