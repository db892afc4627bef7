//! The list of all kinds of files.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::DeviceId;

use super::refusal::{self, Refusal};
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, Stage, Status,
};
use crate::Result;

/// A kind of file, for lists of what is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported {
    /// What users and logs call it.
    pub name: &'static str,
    /// The image's tag for it.
    pub tag: FdType,
}

macro_rules! registry {
    (
        rooms { $( $(#[$doc:meta])* $kind:ident($room:ty), )* }
        refused { $( $tag:ident => $refusal:ident, )* }
    ) => {
        /// A file of any kind.
        #[derive(Debug)]
        pub enum File {
            $( $(#[$doc])* $kind($room), )*
        }

        /// Every kind of file there is a room for.
        pub const SUPPORTED: &[Supported] =
            &[$( Supported { name: <$room>::NAME, tag: <$room>::TYPE }, )*];

        impl File {
            /// What users and logs call it.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $( Self::$kind(_) => <$room>::NAME, )* }
            }

            /// The image's tag for it.
            #[must_use]
            pub fn tag(&self) -> FdType {
                match self { $( Self::$kind(_) => <$room>::TYPE, )* }
            }

            /// The kinds whose rooms claim a file. There is one, or the file is
            /// refused.
            pub fn claims(probe: &Probe) -> impl Iterator<Item = FdType> {
                let claims = [$( <$room>::claims(probe).then_some(<$room>::TYPE), )*];
                claims.into_iter().flatten().filter(|_| !probe.is_anonymous_path())
            }

            /// Reads a file, in the room that claims it. Nothing about the
            /// file changes.
            ///
            /// # Errors
            /// No room claims it, it has state that cannot be saved, or the
            /// kernel does not tell.
            pub fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
                $( if !probe.is_anonymous_path() && <$room>::claims(probe) {
                    debug_assert_eq!(Self::claims(probe).count(), 1, "{probe:?}");
                    return <$room>::collect(cx, probe).map(Self::$kind);
                } )*
                Err(Refusal::of(probe).error(&probe.link))
            }

            /// Writes the file to the images.
            ///
            /// # Errors
            /// They cannot be written.
            pub fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
                match self { $( Self::$kind(file) => file.encode(id, images), )* }
            }

            pub(super) fn decode(
                id: FileId,
                entry: &FileEntry,
                images: &mut ImageSource<'_>,
            ) -> Result<Self> {
                let tag = entry.fd_type().ok_or_else(|| refusal::unknown_tag(id))?;
                match tag {
                    $( <$room>::TYPE => <$room>::decode(id, entry, images).map(Self::$kind), )*
                    $( FdType::$tag => Err(Refusal::$refusal.error_of_image(id)), )*
                }
            }

            /// What every open file description has.
            #[must_use]
            pub fn status(&self) -> &Status {
                match self { $( Self::$kind(file) => file.status(), )* }
            }

            pub(super) fn stage(&self) -> Stage {
                match self { $( Self::$kind(file) => file.stage(), )* }
            }

            pub(super) fn create(&self, id: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
                match self { $( Self::$kind(file) => file.create(id, cx), )* }
            }

            pub(super) fn inode(&self) -> Option<&dyn Inode> {
                match self { $( Self::$kind(file) => file.inode(), )* }
            }

            pub(super) fn fill(
                rank: FillRank,
                files: &[(FileId, &Self, BorrowedFd<'_>)],
                cx: &FillCx<'_>,
            ) -> Result<()> {
                let tags: Vec<FdType> = files.iter().map(|(_, file, _)| file.tag()).collect();
                $( if <$room>::RANKS.contains(&rank) {
                    let own = files.iter().zip(&tags).filter(|(_, tag)| **tag == <$room>::TYPE);
                    let own = own.filter_map(|(&(id, file, fd), _)| {
                        let Self::$kind(kind) = file else { return None };
                        Some(Created { id, kind, file: fd })
                    });
                    <$room>::fill(rank, &own.collect::<Vec<_>>(), cx)?;
                } )*
                Ok(())
            }
        }
    };
}

registry! {
    rooms {
        /// A regular file, a directory, a stateless device, or anything by
        /// `O_PATH`.
        Path(super::path::PathFile),
        /// An end of a pipe.
        Pipe(super::pipe::Pipe),
        /// An end of a fifo.
        Fifo(super::fifo::Fifo),
        /// A memfd.
        Memfd(super::memfd::Memfd),
        /// An eventfd.
        Eventfd(super::eventfd::Eventfd),
        /// An inotify.
        Inotify(super::inotify::Inotify),
        /// A fanotify.
        Fanotify(super::fanotify::Fanotify),
        /// A timerfd.
        Timerfd(super::timerfd::Timerfd),
        /// A signalfd.
        Signalfd(super::signalfd::Signalfd),
        /// An internet socket.
        Inet(super::inet::Inet),
        /// An epoll.
        Epoll(super::epoll::Epoll),
        /// A namespace.
        Namespace(super::namespace::Namespace),
        /// A BPF map.
        BpfMap(super::bpf_map::BpfMap),
        /// A POSIX message queue.
        Mqueue(super::mqueue::Mqueue),
        /// A ring of io_uring.
        IoUring(super::io_uring::IoUring),
        /// A userfaultfd.
        Userfaultfd(super::userfaultfd::Userfaultfd),
        /// A pidfd.
        Pidfd(super::pidfd::Pidfd),
        /// A terminal.
        Terminal(super::tty::Terminal),
        /// A queue of a tun or tap interface.
        Tun(super::tun::Tun),
        /// A netlink socket.
        Netlink(super::netlink::Netlink),
        /// A packet socket.
        Packet(super::packet::Packet),
        /// A unix socket.
        Unix(super::unix::Unix),
    }
    refused {
        Undefined => Undefined,
        Ext => External,
    }
}

impl File {
    /// If it is an open TCP connection, its `SO_REUSEADDR`.
    pub(super) fn as_connection(&self) -> Option<bool> {
        match self {
            Self::Inet(socket) => socket.as_connection(),
            _ => None,
        }
    }

    /// Device and number of the inode that it was on, if that had no name and is made anew.
    pub(super) fn former_inode(&self) -> Option<(DeviceId, u64)> {
        match self {
            Self::Path(file) => file.former_inode(),
            Self::Fifo(fifo) => fifo.former_inode(),
            _ => None,
        }
    }

    /// Whether it is a socket that listens, and is restored with connections that
    /// wait for it to accept them.
    pub(super) fn has_waiting(&self) -> bool {
        matches!(self, Self::Inet(socket) if socket.has_waiting())
    }

    /// The ends of connections that it keeps back until something is sent on them,
    /// its own last.
    pub(super) fn kept_back(&self) -> impl Iterator<Item = [SocketAddr; 2]> {
        let socket = match self {
            Self::Inet(socket) => Some(socket),
            _ => None,
        };
        socket.into_iter().flat_map(|socket| socket.kept_back())
    }

    /// The terminal it is, if it is one.
    #[must_use]
    pub fn as_terminal(&self) -> Option<&super::tty::Terminal> {
        match self {
            Self::Terminal(terminal) => Some(terminal),
            _ => None,
        }
    }
}
