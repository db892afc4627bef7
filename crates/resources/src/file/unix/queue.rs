//! What waits in a socket's queue, with all that comes with it.
//!
//! Truth from: looking into it ([`super::looking`]).
//! Image: `sk_packet_entry` in `sk-queues.img`, each with its bytes.
//! Where the kernel's own memory can be read, datagrams are read there ([`super::datagrams`]): to look at one wakes
//! who waits to send more. There it also says who has sent each.
//! Fill: by sending, from the very socket it came from where there is one.
//! Not preserved: the time of arrival; an empty datagram behind others that was
//! looked at by `SO_PEEK_OFF` before (the kernel shows it once), unless it is read from memory; where `buffers` cannot tell, how a
//! stream is divided into buffers, except at descriptors and senders; what memory those take that were
//! spliced; the place of an out-of-band byte that was read already; that the kernel counts one (`FIONREAD`) which it
//! has dropped.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use dormouse_image::proto::files::socket::{ScmEntry, SkCredEntry, SkPacketEntry};
use dormouse_kernel::sock_diag::UnixDiag;
use dormouse_kernel::socket::Credentials;

use super::address::judge_name;
use super::buffers::Buffer;
use super::looking::{Number, Reader};
use super::spec::Kind;
use crate::Result;
use crate::file::FileId;

/// What is in a queue, first to be read first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) packets: Vec<Packet>,
    /// Sockets of datagrams that are told when this one can be sent to again, who began to wait first first: it is
    /// told last.
    pub(super) told: Vec<FileId>,
}

/// Who has sent a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sender {
    /// Nobody knows more than its address.
    #[default]
    Unknown,
    /// A socket that is not of the checkpoint; mostly it has closed.
    Gone,
    /// This one, whatever it is called and connected to now.
    Socket(FileId),
}

/// What stands for [`Sender::Gone`] in images: no file has this number.
const GONE: u32 = 0;

impl Sender {
    fn encode(self) -> Option<u32> {
        match self {
            Self::Unknown => None,
            Self::Gone => Some(GONE),
            Self::Socket(id) => Some(id.as_raw()),
        }
    }

    fn decode(sender: Option<u32>) -> Self {
        match sender {
            None => Self::Unknown,
            Some(GONE) => Self::Gone,
            Some(id) => Self::Socket(FileId::from_raw(id)),
        }
    }
}

/// A message, or bytes of a stream that came with the same things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    /// Descriptors in flight.
    pub(super) rights: Vec<FileId>,
    /// The address of who sent it; empty if it had none.
    pub(super) from: Vec<u8>,
    /// Who sent it, if the receiver asks for that.
    pub(super) credentials: Option<Credentials>,
    /// It is one byte, sent out of band.
    pub(super) urgent: bool,
    /// How much of its buffer was read already, in bytes.
    pub(super) read: u32,
    /// Who sent it, if it is a datagram.
    pub(super) sender: Sender,
}

/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

/// `SCM_MAX_FD`, `include/net/scm.h`.
const MAX_RIGHTS: usize = 253;

/// No buffer of a stream has more bytes, however large pages are (`unix_stream_sendmsg`).
const LONGEST: u32 = 1 << 17;

impl Queue {
    /// Whether it is worth looking.
    pub(super) fn may_hold(socket: &UnixDiag) -> bool {
        // Of datagrams the kernel counts the first alone, which may be empty.
        socket.state != LISTEN && (socket.received > 0 || socket.kind != libc::SOCK_STREAM)
    }

    /// Looks into the queue of `socket`; `is_plain` is whether it is known that
    /// nothing there is out of band, and that it is read from the front. `inside` reads all of it without
    /// looking, or cannot.
    pub(super) fn collect(
        (file, is_plain): (BorrowedFd<'_>, bool),
        socket: &UnixDiag,
        link: &Path,
        number: Number<'_>,
        inside: impl FnOnce(BorrowedFd<'_>) -> Option<Vec<Packet>>,
    ) -> Result<Self> {
        let mut reader = Reader { file, link, number };
        let packets = match socket.kind {
            libc::SOCK_STREAM => reader.stream(socket.received as usize, is_plain)?,
            _ if !reader.may_look(socket)? => Vec::new(),
            _ => match inside(file) {
                Some(packets) => packets,
                None => reader.datagrams(socket)?,
            },
        };
        Ok(Self { packets, told: Vec::new() })
    }

    /// Divides a stream into the buffers that it is in, if these are they.
    pub(super) fn divide(&mut self, buffers: &[Buffer]) {
        let all: usize = self.packets.iter().map(|packet| packet.bytes.len()).sum();
        if buffers.iter().map(|buffer| buffer.unread as usize).sum::<usize>() != all {
            return;
        }
        // Of a byte out of band that was read there is an empty one.
        let mut buffers = buffers.iter().filter(|buffer| buffer.unread > 0).copied();
        let mut divided = Vec::with_capacity(buffers.size_hint().1.unwrap_or_default());
        let mut buffer = Buffer::default();
        for mut packet in std::mem::take(&mut self.packets) {
            let bytes = std::mem::take(&mut packet.bytes);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                if buffer.unread == 0 {
                    buffer = buffers.next().expect("as many bytes are in them");
                }
                let (piece, behind) = rest.split_at(rest.len().min(buffer.unread as usize));
                buffer.unread -= piece.len() as u32;
                rest = behind;
                // Only what is read next can have been read in part.
                let read = if divided.is_empty() && !packet.urgent { buffer.read } else { 0 };
                // Descriptors come with the last.
                let rights = match rest {
                    [] => std::mem::take(&mut packet.rights),
                    _ => Vec::new(),
                };
                divided.push(Packet { bytes: piece.to_vec(), rights, read, ..packet.clone() });
            }
        }
        self.packets = divided;
    }

    /// Judges whether a socket of a kind can have it.
    pub(super) fn check(&self, kind: Kind) -> Result<(), &'static str> {
        let is_stream = kind == Kind::Stream;
        let mut read = self.packets.iter().enumerate().filter(|(_, packet)| packet.read > 0);
        if !read.all(|(place, packet)| place == 0 && is_stream && !packet.bytes.is_empty()) {
            return Err("something was read in part that cannot be");
        }
        let named = self.packets.iter().any(|packet| packet.sender != Sender::Unknown);
        if kind.is_mutual() && (named || !self.told.is_empty()) {
            return Err("it says who has sent something, or waits to, and has only a peer");
        }
        Ok(())
    }

    /// As images have it: entries for the socket `id`, with their bytes.
    pub(super) fn encode(&self, id: FileId) -> impl Iterator<Item = (SkPacketEntry, Vec<u8>)> {
        self.packets.iter().map(move |packet| (packet.encode(id.as_raw()), packet.bytes.clone()))
    }
}

impl Packet {
    /// As images have it, but for its bytes; `id` is that of the socket it waits in.
    pub(super) fn encode(&self, id: u32) -> SkPacketEntry {
        let Self { bytes, rights, from, credentials, urgent, read, sender } = self;
        let rights: Vec<u32> = rights.iter().map(|file| file.as_raw()).collect();
        let scm = ScmEntry { kind: libc::SCM_RIGHTS.cast_unsigned(), rights };
        let cred = credentials.map(|Credentials { pid, uid, gid }| SkCredEntry { pid, uid, gid });
        SkPacketEntry {
            id_for: id,
            // The kernel takes no more than 2 GiB at a time.
            length: bytes.len() as u32,
            scm: if scm.rights.is_empty() { Vec::new() } else { vec![scm] },
            from: Some(from.clone()).filter(|from| !from.is_empty()),
            cred,
            urgent: urgent.then_some(true),
            datagram: None,
            read: Some(*read).filter(|&read| read > 0),
            sender: sender.encode(),
        }
    }

    /// Judges what an image has.
    pub(super) fn decode(entry: &SkPacketEntry, bytes: Vec<u8>) -> Result<Self, &'static str> {
        let SkPacketEntry {
            id_for: _,
            length: _,
            scm,
            from,
            cred,
            urgent,
            datagram: _,
            read,
            sender,
        } = entry;
        let rights = match scm.as_slice() {
            [] => Vec::new(),
            [ScmEntry { kind, rights }] if kind.cast_signed() == libc::SCM_RIGHTS => {
                rights.iter().map(|&file| FileId::from_raw(file)).collect()
            }
            _ => return Err("something unknown comes with it"),
        };
        if rights.len() > MAX_RIGHTS {
            return Err("it has more descriptors than can be sent at once");
        }
        let urgent = urgent.unwrap_or(false);
        if urgent && bytes.len() != 1 {
            return Err("more than one byte is out of band");
        }
        if let Some(name) = from {
            judge_name(name)?;
        }
        let read = read.unwrap_or(0);
        if read > LONGEST || urgent && read > 0 {
            return Err("more of it was read than a buffer has");
        }
        let credentials = cred.map(|SkCredEntry { pid, uid, gid }| Credentials { pid, uid, gid });
        Ok(Self {
            bytes,
            rights,
            from: from.clone().unwrap_or_default(),
            credentials,
            urgent,
            read,
            sender: Sender::decode(*sender),
        })
    }
}

/// How a descriptor is called in `/proc`, for calls that take a path.
pub(super) fn by_descriptor(file: impl AsFd) -> Vec<u8> {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into_bytes()
}
