//! Looks into the queue of a socket.
//!
//! Truth from: `recvmsg(2)` with `MSG_PEEK`. The first message can be seen as
//! often as one likes; for those behind it `SO_PEEK_OFF` has to be set for a
//! moment ([`PeekOffset`] sets it back even if this process is killed). Descriptors in flight arrive
//! here as new ones each time.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use dormouse_kernel::Errno;
use dormouse_kernel::sock_diag::UnixDiag;
use dormouse_kernel::socket::{
    Message, PeekOffset, SocketOption, at_mark, before_last_buffer, peek,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;

use super::queue::Packet;
use crate::file::FileId;
use crate::{Error, Result};

/// What a datagram may have before it is asked for in one piece.
const DATAGRAM: usize = 1 << 16;

const PEEK_OFF: SocketOption = SocketOption::of_socket(libc::SO_PEEK_OFF);

/// Gives a number to a descriptor that was found in flight.
pub(super) type Number<'a> = &'a mut dyn FnMut(OwnedFd) -> Result<FileId>;

/// Looks into a queue.
pub(super) struct Reader<'a> {
    pub(super) file: BorrowedFd<'a>,
    pub(super) link: &'a Path,
    pub(super) number: Number<'a>,
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
        Ok(Packet { bytes, rights, from, credentials, ..Packet::default() })
    }

    /// All of a stream, `total` bytes.
    pub(super) fn stream(&mut self, total: usize, is_plain: bool) -> Result<Vec<Packet>> {
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
                // The kernel goes on counting a byte out of band that was passed over and dropped.
                break;
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
        let message = match peek(self.file, total, false) {
            Err(Errno::AGAIN) => return Ok(None),
            message => message.map_err(self.failed())?,
        };
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
        let message = match peek(self.file, left, false) {
            // Nothing is there.
            Err(Errno::AGAIN) => return Ok(Vec::new()),
            message => message.map_err(&failed)?,
        };
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

    /// Whether there is something, and it can be looked at.
    pub(super) fn may_look(&self, socket: &UnixDiag) -> Result<bool> {
        let failed = self.failed();
        let mut ready = [PollFd::from_borrowed_fd(self.file, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ready, Some(&now)).map_err(&failed)?;
        let ready = ready[0].revents();
        if !ready.contains(PollFlags::IN) {
            return Ok(false);
        }
        if ready.contains(PollFlags::ERR) {
            // To look would take the error out. Of datagrams the kernel counts the first, which may be empty.
            let is_shut = matches!(socket.shutdown, Some(Shutdown::Read | Shutdown::Both));
            if socket.received == 0 && (socket.kind != libc::SOCK_DGRAM || is_shut) {
                return Ok(false);
            }
            return Err(Error::Unsupported {
                object: "a unix socket",
                detail: self.link.into(),
                reason: "it has an error to tell, and messages in its queue",
                hint: "checkpoint the program when it has read either",
            });
        }
        Ok(true)
    }

    /// All messages.
    pub(super) fn datagrams(&mut self, socket: &UnixDiag) -> Result<Vec<Packet>> {
        let failed = self.failed();
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
