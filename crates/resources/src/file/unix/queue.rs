//! What waits in a socket's queue, with all that comes with it.
//!
//! Truth from: `recvmsg(2)` with `MSG_PEEK`. The first message can be seen as
//! often as one likes; for those behind it `SO_PEEK_OFF` has to be set for a
//! moment ([`PeekOffset`] sets it back even if this process is killed). Descriptors in flight arrive
//! here as new ones each time.
//! Image: `sk_packet_entry` in `sk-queues.img`, each with its bytes.
//! Fill: by sending, from the very socket it came from where there is one.
//! Not preserved: the time of arrival; an empty datagram behind others that was
//! looked at by `SO_PEEK_OFF` before (the kernel shows it once); where `buffers` cannot tell, how a
//! stream is divided into buffers, except at descriptors and senders; what memory those take that were
//! spliced; the place of an out-of-band byte that was read already.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use dormouse_image::proto::files::socket::{ScmEntry, SkCredEntry, SkPacketEntry};
use dormouse_kernel::Errno;
use dormouse_kernel::sock_diag::UnixDiag;
use dormouse_kernel::socket::{
    Credentials, Message, PeekOffset, SocketOption, at_mark, before_last_buffer, peek,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;

use super::address::judge_name;
use super::buffers::Buffer;
use crate::file::FileId;
use crate::{Error, Result};

/// What is in a queue, first to be read first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) packets: Vec<Packet>,
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
}

/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

/// `SCM_MAX_FD`, `include/net/scm.h`.
const MAX_RIGHTS: usize = 253;

/// No buffer of a stream has more bytes, however large pages are (`unix_stream_sendmsg`).
const LONGEST: u32 = 1 << 17;

/// What a datagram may have before it is asked for in one piece.
const DATAGRAM: usize = 1 << 16;

const PEEK_OFF: SocketOption = SocketOption::of_socket(libc::SO_PEEK_OFF);

/// Gives a number to a descriptor that was found in flight.
type Number<'a> = &'a mut dyn FnMut(OwnedFd) -> Result<FileId>;

impl Queue {
    /// Whether it is worth looking.
    pub(super) fn may_hold(socket: &UnixDiag) -> bool {
        // Of datagrams the kernel counts the first alone, which may be empty.
        socket.state != LISTEN && (socket.received > 0 || socket.kind != libc::SOCK_STREAM)
    }

    /// Looks into the queue of `socket`; `is_plain` is whether it is known that
    /// nothing there is out of band, and that it is read from the front.
    pub(super) fn collect(
        (file, is_plain): (BorrowedFd<'_>, bool),
        socket: &UnixDiag,
        link: &Path,
        number: Number<'_>,
    ) -> Result<Self> {
        let mut reader = Reader { file, link, number };
        let packets = if socket.kind == libc::SOCK_STREAM {
            reader.stream(socket.received as usize, is_plain)?
        } else {
            reader.datagrams(socket)?
        };
        Ok(Self { packets })
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
    pub(super) fn check(&self, is_stream: bool) -> Result<(), &'static str> {
        let mut read = self.packets.iter().enumerate().filter(|(_, packet)| packet.read > 0);
        match read.all(|(place, packet)| place == 0 && is_stream && !packet.bytes.is_empty()) {
            true => Ok(()),
            false => Err("something was read in part that cannot be"),
        }
    }

    /// As images have it: entries for the socket `id`, with their bytes.
    pub(super) fn encode(&self, id: FileId) -> impl Iterator<Item = (SkPacketEntry, Vec<u8>)> {
        self.packets.iter().map(move |packet| (packet.encode(id.as_raw()), packet.bytes.clone()))
    }
}

impl Packet {
    /// As images have it, but for its bytes; `id` is that of the socket it waits in.
    pub(super) fn encode(&self, id: u32) -> SkPacketEntry {
        let Self { bytes, rights, from, credentials, urgent, read } = self;
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
        }
    }

    /// Judges what an image has.
    pub(super) fn decode(entry: &SkPacketEntry, bytes: Vec<u8>) -> Result<Self, &'static str> {
        let SkPacketEntry { id_for: _, length: _, scm, from, cred, urgent, datagram: _, read } =
            entry;
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
        })
    }
}

/// Looks into a queue.
struct Reader<'a> {
    file: BorrowedFd<'a>,
    link: &'a Path,
    number: Number<'a>,
}

impl<'a> Reader<'a> {
    fn failed(&self) -> impl Fn(Errno) -> Error + use<> {
        let link = self.link.to_owned();
        move |source| Error::kernel("recvmsg", link.clone())(source)
    }

    fn offset(&self) -> Result<PeekOffset<'a>> {
        PeekOffset::of(self.file).map_err(self.failed())
    }

    fn packet(&mut self, message: Message) -> Result<Packet> {
        let Message { bytes, cut: _, from, rights, credentials } = message;
        let rights = rights.into_iter().map(&mut *self.number).collect::<Result<_>>()?;
        let from = from.unwrap_or_default();
        Ok(Packet { bytes, rights, from, credentials, urgent: false, read: 0 })
    }

    /// All of a stream, `total` bytes.
    fn stream(&mut self, total: usize, is_plain: bool) -> Result<Vec<Packet>> {
        let failed = self.failed();
        if is_plain && let Some(packets) = self.one_piece(total)? {
            return Ok(packets);
        }
        let urgent = match peek(self.file, 1, true) {
            Ok(message) => message.bytes.first().copied(),
            Err(Errno::INVAL | Errno::AGAIN) => None,
            Err(error) => return Err(failed(error)),
        };
        let before = PEEK_OFF.get(self.file).map_err(&failed)?;
        let at_mark = at_mark(self.file).map_err(&failed)?;
        let in_line = SocketOption::of_socket(libc::SO_OOBINLINE);
        let in_line = in_line.get(self.file).map_err(&failed)? != 0;
        let is_front = urgent.is_none() && before < 0 && !(at_mark && in_line);
        if is_front
            && !is_plain
            && let Some(packets) = self.one_piece(total)?
        {
            return Ok(packets);
        }
        let offset = self.offset()?;
        let mut packets = Vec::new();
        let mut position = 0;
        let mut left = total;
        if let Some(byte) = urgent.filter(|_| at_mark) {
            // The kernel passes over it and does not count it.
            packets.push(Packet { bytes: vec![byte], urgent: true, ..Packet::default() });
            left -= 1;
        }
        while left > 0 {
            let piece = self.piece(&offset, position, left)?;
            let len: usize = piece.iter().map(|packet| packet.bytes.len()).sum();
            if len == 0 {
                return Err(failed(Errno::AGAIN));
            }
            packets.extend(piece);
            position += len;
            left -= len;
        }
        if in_line || urgent.is_some() && !at_mark {
            mark(&mut packets, urgent, at_mark);
        }
        Ok(packets)
    }

    /// A stream of one piece, as most are: it can be seen without touching
    /// anything.
    fn one_piece(&mut self, total: usize) -> Result<Option<Vec<Packet>>> {
        let message = peek(self.file, total, false).map_err(self.failed())?;
        match message.bytes.len() == total && message.rights.is_empty() {
            true => Ok(Some(vec![self.packet(message)?])),
            false => Ok(None),
        }
    }

    /// The bytes of a stream from `position` on that come with the same
    /// things: first those that come with no descriptors, then those that do.
    fn piece(
        &mut self,
        offset: &PeekOffset<'_>,
        position: usize,
        left: usize,
    ) -> Result<Vec<Packet>> {
        let failed = self.failed();
        offset.set(position).map_err(&failed)?;
        let message = peek(self.file, left, false).map_err(&failed)?;
        let len = message.bytes.len();
        if message.rights.is_empty() || len <= 1 {
            return Ok(vec![self.packet(message)?]);
        }
        // Descriptors come with the last buffer, and what is before that was
        // read along with it.
        offset.set(position).map_err(&failed)?;
        let without = before_last_buffer(self.file, len).map_err(&failed)?;
        let mut packet = self.packet(message)?;
        let bytes = packet.bytes.split_off(without);
        let bare = std::mem::replace(&mut packet.bytes, bytes);
        let bare = Packet { bytes: bare, rights: Vec::new(), ..packet.clone() };
        let bare = (!bare.bytes.is_empty()).then_some(bare);
        Ok(bare.into_iter().chain([packet]).collect())
    }

    /// All messages.
    fn datagrams(&mut self, socket: &UnixDiag) -> Result<Vec<Packet>> {
        let failed = self.failed();
        let mut ready = [PollFd::from_borrowed_fd(self.file, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ready, Some(&now)).map_err(&failed)?;
        let ready = ready[0].revents();
        if !ready.contains(PollFlags::IN) {
            return Ok(Vec::new());
        }
        if ready.contains(PollFlags::ERR) {
            // To look would take the error out.
            if socket.received == 0 {
                return Ok(Vec::new());
            }
            return Err(Error::Unsupported {
                object: "a unix socket",
                detail: self.link.into(),
                reason: "it has an error to tell, and messages in its queue",
                hint: "checkpoint the program when it has read either",
            });
        }
        /// More messages than any queue holds.
        const MOST: usize = 1 << 16;
        let is_shut = matches!(socket.shutdown, Some(Shutdown::Read | Shutdown::Both));
        // Then its end looks like a message without bytes. The kernel counts the
        // bytes of all that it holds.
        let ends = is_shut && socket.kind == libc::SOCK_SEQPACKET;
        let offset = self.offset()?;
        let mut packets = Vec::new();
        let mut position = 0;
        loop {
            offset.set(position).map_err(&failed)?;
            let mut len = DATAGRAM.max(socket.received as usize);
            let message = loop {
                match peek(self.file, len, false) {
                    Ok(message) if message.cut => {
                        offset.set(position).map_err(&failed)?;
                        len *= 4;
                    }
                    Ok(message) => break message,
                    Err(Errno::AGAIN) => return Ok(packets),
                    Err(error) => return Err(failed(error)),
                }
            };
            let is_empty = message.bytes.is_empty() && message.rights.is_empty();
            if ends && is_empty && position >= socket.received as usize {
                return Ok(packets);
            }
            if packets.len() >= MOST {
                return Err(failed(Errno::AGAIN));
            }
            position += message.bytes.len();
            packets.push(self.packet(message)?);
        }
    }
}

/// Finds the byte that was sent out of band: a stream is not read across it,
/// so it is the first of a packet, and nothing else explains why the one
/// before has ended. `byte` is what it is, unless it is read in line.
fn mark(packets: &mut Vec<Packet>, byte: Option<u8>, at_mark: bool) {
    let is = |packet: &Packet| byte.is_none_or(|byte| packet.bytes.first() == Some(&byte));
    let unexplained = |index: usize| {
        let (before, here) = (&packets[index - 1], &packets[index]);
        before.rights.is_empty() && before.credentials == here.credentials
    };
    let found = match (at_mark, byte) {
        (true, None) => (!packets.is_empty()).then_some(0),
        (_, byte) => {
            let after = || 1..packets.len();
            let first = after().find(|&index| is(&packets[index]) && unexplained(index));
            first.or_else(|| byte.and_then(|_| after().find(|&index| is(&packets[index]))))
        }
    };
    let Some(found) = found else { return };
    let rest = packets[found].bytes.split_off(1);
    let after = Packet { bytes: rest, ..packets[found].clone() };
    packets[found].urgent = true;
    packets[found].rights.clear();
    if !after.bytes.is_empty() {
        packets.insert(found + 1, after);
    }
}

/// How a descriptor is called in `/proc`, for calls that take a path.
pub(super) fn by_descriptor(file: impl AsFd) -> Vec<u8> {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into_bytes()
}
