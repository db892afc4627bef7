//! Open files: one room per kind.
//!
//! # Dump
//!
//! 1. Every descriptor of every task is looked at ([`Sighting`]), and told
//!    apart from the others ([`FileIndex`]): now each open file description
//!    has its [`FileId`] and one [`Probe`]. Mapped files, executables and
//!    directories in use get a number and a probe as well.
//! 2. [`File::collect`] reads each of them, in the room that claims it.
//! 3. [`File::encode`] and [`FdTable::encode`] write the images, then
//!    [`ImageSink::finish`].
//!
//! # Restore
//!
//! 1. [`ImageSource::open`]; [`FdTable::decode`] for every table, and
//!    [`ImageSource::file_ref`] for whatever else refers to a file; then
//!    [`ImageSource::finish`] gives all [`Files`], judged: nothing that comes
//!    later looks at an image again, and no reference leads nowhere.
//! 2. [`CreateCx::create_all`] creates every open file description, once, but
//!    for those that are about processes: [`CreateCx::create_living`] makes
//!    them when those live.
//!    [`CreateCx::open_for_mapping`] and [`CreateCx::open_path`] are for
//!    mappings and directories, before or after.
//! 3. When they are in all fd tables, [`CreatedFiles::fill`], rank by rank.

mod bpf_map;
mod collect;
mod create;
mod epoll;
mod eventfd;
mod extended;
mod fanotify;
mod fifo;
mod files;
mod fill;
mod home_network;
mod id;
mod index;
mod inet;
mod inherit;
mod inotify;
mod interfaces;
mod io_uring;
mod kernel_files;
mod kernel_packets;
mod kind;
mod likeness;
mod listed;
mod location;
mod locks;
pub mod memfd;
mod mounts;
mod mqueue;
mod namespace;
mod netlink;
mod option_names;
mod packet;
mod path;
mod pidfd;
mod pipe;
mod pipe_contents;
mod probe;
mod refusal;
mod registry;
mod sighting;
mod signalfd;
mod sink;
mod sk_queues;
mod socket_options;
mod source;
mod stand_in;
mod status;
mod table;
mod taken;
mod timerfd;
mod times;
mod tty;
mod tun;
mod undo;
mod unix;
mod userfaultfd;
mod watched;

pub use collect::{
    CollectCx, CollectOptions, LinkRemap, NetworkLock, SaveShared, TcpConnections, UnixPeers,
};
pub use create::{CreateCx, LoadShared, Uncreated};
pub use epoll::{Adder, Hidden, ItemProblem, Outsider, SignalItem};
pub use files::{FileRef, Files};
pub use fill::{CreatedFiles, FillCx};
pub use id::{FdTableId, FileId, InodeId};
pub use index::{FileIndex, Identity, Place, compare};
pub use inet::InsideError;
pub use inet::{Connections, HeldConnections, unlock_network};
pub use io_uring::{Completing, IoUring, Resuming, RingSurvey, RingTasks};
pub use kernel_files::{KernelFile, KernelFileId, KernelFiles, KernelTable};
pub use kind::{Created, FileKind, FillRank, Inode, Stage};
pub use locks::{Lock, Locks};
pub use mounts::Mounts;
pub use mqueue::Notification;
pub use namespace::NamespaceType;
pub use packet::packet_rings_len;
pub use probe::{FsMagic, Holder, Origin, Probe, SocketFamily};
pub use refusal::Refusal;
pub use registry::{File, SUPPORTED, Supported};
pub use sighting::Sighting;
pub use sink::ImageSink;
pub use source::{ImageSource, Use};
pub use status::Status;
pub use table::{Descriptor, FdTable};
pub use tty::{Control, Controlled, Terminal};
pub use undo::UndoLog;
pub use unix::UnixSurvey;
pub use userfaultfd::{UserfaultSurvey, Userfaultfd};
