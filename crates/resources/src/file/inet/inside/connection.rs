//! What a socket has to tell, and what no call tells of a connection.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::{Inside, InsideError, Layout};

/// What a socket has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Pending {
    /// The number of the error.
    pub(in super::super) error: u32,
    /// Whether nothing is told of what it has sent besides (`MSG_ERRQUEUE`).
    pub(in super::super) alone: bool,
    /// Whether its program was told that it is being connected, and not more.
    pub(in super::super) connecting: bool,
    /// Whether it has been connected, and not disconnected since.
    pub(in super::super) connected: bool,
    /// Whether there is no connection any more.
    pub(in super::super) closed: bool,
}

/// What no call tells of a connection of TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct InnerState {
    /// Whether it counts what it has sent by `MSG_ZEROCOPY`.
    pub(in super::super) counts_notices: bool,
    /// The byte that came out of band.
    pub(in super::super) urgent: Option<Urgent>,
    /// How much was sent, or is to be, up to a byte out of band that the peer may not have yet:
    /// it is the last.
    pub(in super::super) urgent_sent: Option<u32>,
}

/// A byte that came out of band, and waits, or stands among others that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Urgent {
    /// How many bytes wait before it.
    pub(in super::super) before: u32,
    /// How many wait in all, with it, and with one that stands for the end.
    pub(in super::super) all: u32,
    /// Whether it was read.
    pub(in super::super) read: bool,
}

impl Inside {
    /// What a socket has to tell.
    pub(in super::super) fn pending(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<Pending, InsideError> {
        // enum socket_state, include/uapi/linux/net.h; include/net/tcp_states.h.
        const CONNECTING: u32 = 2;
        const CONNECTED: u32 = 3;
        const CLOSE: u8 = 7;
        let Layout { socket_sock, socket_state, state, error, errors, .. } = self.layout;
        let socket = self.layout.files.private_data(&mut self.memory, &[socket])?[0];
        let sock = self.memory.word(socket + socket_sock as u64)?;
        let progress = self.memory.word(socket + socket_state as u64)? as u32;
        Ok(Pending {
            error: self.memory.word(sock + error as u64)? as u32,
            // Then the queue leads back to itself.
            alone: self.memory.word(sock + errors as u64)? == sock + errors as u64,
            connecting: progress == CONNECTING,
            connected: progress == CONNECTED,
            closed: self.memory.word(sock + state as u64)? as u8 == CLOSE,
        })
    }

    /// Whom a socket that is no stream is connected to.
    pub(in super::super) fn peer(
        &mut self,
        socket: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Option<SocketAddr>, InsideError> {
        // TCP_ESTABLISHED, include/net/tcp_states.h.
        const ESTABLISHED: u8 = 1;
        let sock = self.socks(&[socket])?[0];
        let state = self.memory.word(sock + self.layout.state as u64)? as u8;
        let (_, remote) = self.ends(sock, is_v6)?;
        Ok((state == ESTABLISHED).then_some(remote))
    }

    /// What open connections have that no call tells; packets must not come in
    /// meanwhile.
    pub(in super::super) fn inner_states(
        &mut self,
        sockets: &[BorrowedFd<'_>],
    ) -> Result<Vec<InnerState>, InsideError> {
        // TCP_URG_VALID, TCP_URG_READ: include/net/tcp.h.
        const VALID: u16 = 0x100;
        const READ: u16 = 0x400;
        let Layout { notices, urgent, urgent_at, read_to, received_to, .. } = self.layout;
        let Layout { urgent_sent, acknowledged_to, .. } = self.layout;
        let socks = self.socks(sockets)?;
        let mut fields = Vec::new();
        for offset in
            [notices, urgent_sent, acknowledged_to, urgent, urgent_at, read_to, received_to]
        {
            fields.push(self.memory.words_behind(&socks, offset)?);
        }
        let judge = |index: usize| {
            let [notices, urgent_sent, acknowledged_to, urgent, urgent_at, read_to, received_to] =
                std::array::from_fn(|field| fields[field][index] as u32);
            let urgent = urgent as u16;
            // It was read and nothing else is there: that it was, is all that
            // would be told.
            let alone = read_to == urgent_at && received_to == urgent_at.wrapping_add(1);
            let read = urgent & READ != 0;
            let before = urgent_at.wrapping_sub(read_to);
            let all = received_to.wrapping_sub(read_to);
            // What it was before, may still be told of one that the program is past.
            let waits = before < all && (urgent & VALID != 0 || read && !alone);
            InnerState {
                counts_notices: notices != 0,
                urgent: waits.then_some(Urgent { before, all, read }),
                urgent_sent: (urgent_sent != acknowledged_to)
                    .then(|| urgent_sent.wrapping_sub(acknowledged_to)),
            }
        };
        Ok((0..socks.len()).map(judge).collect())
    }
}
