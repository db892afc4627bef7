//! Open files: `files.img`, `fdinfo-ID.img`, and what hangs on them.

pub mod bpfmap;
pub mod eventfd;
pub mod eventpoll;
pub mod ext;
pub mod fsnotify;
pub mod inet;
pub mod io_uring;
pub mod memfd;
pub mod mqueue;
pub mod netlink;
pub mod ns;
pub mod packet;
pub mod pidfd;
pub mod pipe;
pub mod reg;
pub mod signalfd;
pub mod socket;
pub mod timerfd;
pub mod tty;
pub mod tun;
pub mod unix;
pub mod userfaultfd;

use crate::proto::files::bpfmap::BpfmapFileEntry;
use crate::proto::files::eventfd::EventfdFileEntry;
use crate::proto::files::eventpoll::EventpollFileEntry;
use crate::proto::files::ext::ExtFileEntry;
use crate::proto::files::fsnotify::{FanotifyFileEntry, InotifyFileEntry};
use crate::proto::files::inet::InetSkEntry;
use crate::proto::files::io_uring::IoUringFileEntry;
use crate::proto::files::memfd::MemfdFileEntry;
use crate::proto::files::mqueue::MqueueFileEntry;
use crate::proto::files::netlink::NetlinkSkEntry;
use crate::proto::files::ns::NsFileEntry;
use crate::proto::files::packet::PacketSockEntry;
use crate::proto::files::pidfd::PidfdEntry;
use crate::proto::files::pipe::{FifoEntry, PipeEntry};
use crate::proto::files::reg::RegFileEntry;
use crate::proto::files::signalfd::SignalfdEntry;
use crate::proto::files::timerfd::TimerfdEntry;
use crate::proto::files::tty::TtyFileEntry;
use crate::proto::files::tun::TunfileEntry;
use crate::proto::files::unix::UnixSkEntry;
use crate::proto::files::userfaultfd::UserfaultfdFileEntry;

/// Kind of an open file (`fd_types`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum FdType {
    Undefined = 0,
    Reg = 1,
    Pipe = 2,
    Fifo = 3,
    InetSk = 4,
    UnixSk = 5,
    EventFd = 6,
    EventPoll = 7,
    Inotify = 8,
    SignalFd = 9,
    PacketSk = 10,
    Tty = 11,
    Fanotify = 12,
    NetlinkSk = 13,
    Ns = 14,
    Tun = 15,
    Ext = 16,
    TimerFd = 17,
    MemFd = 18,
    BpfMap = 19,
    PidFd = 20,
    /// Only dormouse has it; see [`in_images`](Self::in_images).
    Mqueue = 20000,
    /// Likewise.
    IoUring = 20001,
    /// Likewise.
    Userfaultfd = 20002,
}

impl FdType {
    /// What images call it. Who does not know a kind can read no image that has it, so what only
    /// dormouse has is a file of somebody else's there.
    #[must_use]
    pub const fn in_images(self) -> Self {
        match self {
            Self::Mqueue | Self::IoUring | Self::Userfaultfd => Self::Ext,
            kind => kind,
        }
    }
}

impl FileEntry {
    /// Which kind it is, be it one that only dormouse has. `None` if it is not known.
    #[must_use]
    pub fn fd_type(&self) -> Option<FdType> {
        match FdType::try_from(self.kind).ok()? {
            FdType::Ext if self.mqueue.is_some() => Some(FdType::Mqueue),
            FdType::Ext if self.uring.is_some() => Some(FdType::IoUring),
            FdType::Ext if self.userfaultfd.is_some() => Some(FdType::Userfaultfd),
            FdType::Ext if self.ext.is_none() => None,
            kind => Some(kind),
        }
    }

    /// With what images call its kind.
    #[must_use]
    pub fn for_images(mut self) -> Self {
        if let Some(kind) = self.fd_type()
            && kind.in_images() != kind
        {
            self.kind = kind.in_images().into();
            let fown = FownEntry::default();
            self.ext = Some(Box::new(ExtFileEntry { id: self.id, fown }));
        }
        self
    }
}

/// One descriptor of `fdinfo-ID.img` (`fdinfo_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FdinfoEntry {
    /// The file it refers to.
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// `FD_CLOEXEC` or 0.
    #[prost(uint32, required, tag = "2")]
    pub flags: u32,
    /// A [`FdType`] (CRIU: `type`).
    #[prost(enumeration = "FdType", required, tag = "3")]
    pub kind: i32,
    /// Number of the descriptor.
    #[prost(uint32, required, tag = "4")]
    pub fd: u32,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub xattr_security_selinux: Option<Vec<u8>>,
}

/// One open file description of `files.img` (`file_entry`). One of the optional fields is there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FileEntry {
    /// A [`FdType`] (CRIU: `type`).
    #[prost(enumeration = "FdType", required, tag = "1")]
    pub kind: i32,
    /// Unique in the directory; each kind repeats it inside.
    #[prost(uint32, required, tag = "2")]
    pub id: u32,
    #[prost(message, optional, boxed, tag = "3")]
    pub reg: Option<Box<RegFileEntry>>,
    #[prost(message, optional, boxed, tag = "4")]
    pub isk: Option<Box<InetSkEntry>>,
    #[prost(message, optional, boxed, tag = "5")]
    pub nsf: Option<Box<NsFileEntry>>,
    #[prost(message, optional, boxed, tag = "6")]
    pub psk: Option<Box<PacketSockEntry>>,
    #[prost(message, optional, boxed, tag = "7")]
    pub nlsk: Option<Box<NetlinkSkEntry>>,
    #[prost(message, optional, boxed, tag = "8")]
    pub efd: Option<Box<EventfdFileEntry>>,
    #[prost(message, optional, boxed, tag = "9")]
    pub epfd: Option<Box<EventpollFileEntry>>,
    #[prost(message, optional, boxed, tag = "10")]
    pub sgfd: Option<Box<SignalfdEntry>>,
    #[prost(message, optional, boxed, tag = "11")]
    pub tunf: Option<Box<TunfileEntry>>,
    #[prost(message, optional, boxed, tag = "12")]
    pub tfd: Option<Box<TimerfdEntry>>,
    #[prost(message, optional, boxed, tag = "13")]
    pub ify: Option<Box<InotifyFileEntry>>,
    #[prost(message, optional, boxed, tag = "14")]
    pub ffy: Option<Box<FanotifyFileEntry>>,
    #[prost(message, optional, boxed, tag = "15")]
    pub ext: Option<Box<ExtFileEntry>>,
    #[prost(message, optional, boxed, tag = "16")]
    pub usk: Option<Box<UnixSkEntry>>,
    #[prost(message, optional, boxed, tag = "17")]
    pub fifo: Option<Box<FifoEntry>>,
    #[prost(message, optional, boxed, tag = "18")]
    pub pipe: Option<Box<PipeEntry>>,
    #[prost(message, optional, boxed, tag = "19")]
    pub tty: Option<Box<TtyFileEntry>>,
    #[prost(message, optional, boxed, tag = "20")]
    pub memfd: Option<Box<MemfdFileEntry>>,
    #[prost(message, optional, boxed, tag = "21")]
    pub bpf: Option<Box<BpfmapFileEntry>>,
    #[prost(message, optional, boxed, tag = "22")]
    pub pidfd: Option<Box<PidfdEntry>>,
    #[prost(message, optional, boxed, tag = "20000")]
    pub mqueue: Option<Box<MqueueFileEntry>>,
    #[prost(message, optional, boxed, tag = "20001")]
    pub uring: Option<Box<IoUringFileEntry>>,
    #[prost(message, optional, boxed, tag = "20002")]
    pub userfaultfd: Option<Box<UserfaultfdFileEntry>>,
}

/// `F_SETOWN_EX` and `F_SETSIG` (`fown_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FownEntry {
    /// Credentials at the time of `F_SETOWN`.
    #[prost(uint32, required, tag = "1")]
    pub uid: u32,
    #[prost(uint32, required, tag = "2")]
    pub euid: u32,
    /// 0: SIGIO.
    #[prost(uint32, required, tag = "3")]
    pub signum: u32,
    /// `F_OWNER_*`.
    #[prost(uint32, required, tag = "4")]
    pub pid_type: u32,
    /// 0: nobody.
    #[prost(uint32, required, tag = "5")]
    pub pid: u32,
}
