//! What a socket has to tell, and what no call tells of a connection.

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

/// What no call tells of an open connection of TCP, or only for its queue up to
/// the byte that was sent out of band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum InnerState {
    /// Nothing.
    Plain,
    /// A byte that came out of band waits.
    UrgentUnread,
    /// One was read, and others wait around it.
    UrgentRead,
    /// One was sent, and the peer may not have it yet.
    UrgentUnsent,
    /// It counts what it has sent by `MSG_ZEROCOPY`.
    CountsNotices,
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
            if notices != 0 {
                InnerState::CountsNotices
            } else if urgent_sent != acknowledged_to {
                InnerState::UrgentUnsent
            } else if urgent & VALID != 0 {
                InnerState::UrgentUnread
            } else if urgent & READ != 0 && !alone {
                InnerState::UrgentRead
            } else {
                InnerState::Plain
            }
        };
        Ok((0..socks.len()).map(judge).collect())
    }
}
