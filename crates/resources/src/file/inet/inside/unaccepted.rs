//! Who waits to be accepted.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use epoll_interest::kernel_memory::{Address, ReadError};

use super::{Inside, InsideError, Layout, MOST};

/// A connection that waits to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Unaccepted {
    pub(in super::super) local: SocketAddr,
    pub(in super::super) remote: SocketAddr,
    /// Whether nothing has come yet, not even an end.
    pub(in super::super) is_untouched: bool,
}

impl Inside {
    /// The connections that wait to be accepted, first to be accepted first.
    pub(in super::super) fn unaccepted(
        &mut self,
        listener: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Vec<Unaccepted>, InsideError> {
        self.steady(|inside| inside.try_unaccepted(listener, is_v6))
    }

    /// Whether anybody was answered who has asked one of those that listen, and
    /// does not wait to be accepted yet.
    pub(in super::super) fn are_shaking_hands(
        &mut self,
        listeners: &[BorrowedFd<'_>],
    ) -> Result<bool, InsideError> {
        let socks = self.socks(listeners)?;
        let counts = self.memory.words_behind(&socks, self.layout.handshakes)?;
        Ok(counts.into_iter().any(|count| count as u32 != 0))
    }

    fn try_unaccepted(
        &mut self,
        listener: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Vec<Unaccepted>, ReadError> {
        const ESTABLISHED: u8 = 1;
        let Layout { state, read_to, received_to, .. } = self.layout;
        let mut found = Vec::new();
        for sock in self.waiting_socks(listener)? {
            let (local, remote) = self.waiting_ends(listener, sock, is_v6)?;
            let state = self.memory.word(sock + state as u64)? as u8;
            let [read_to, received_to] = [read_to, received_to].map(|at| sock + at as u64);
            let unread = self.memory.word(read_to)? as u32 != self.memory.word(received_to)? as u32;
            let is_untouched = state == ESTABLISHED && !unread;
            found.push(Unaccepted { local, remote, is_untouched });
        }
        Ok(found)
    }

    /// The `struct sock` of each connection that waits to be accepted.
    pub(super) fn waiting_socks(
        &mut self,
        listener: BorrowedFd<'_>,
    ) -> Result<Vec<Address>, ReadError> {
        let Layout { unaccepted, next_request, request_sock, .. } = self.layout;
        let listener = self.socks(&[listener])?[0];
        let mut found = Vec::new();
        let mut request = self.memory.word(listener + unaccepted as u64)?;
        while request != 0 {
            if found.len() >= MOST {
                return Err(ReadError::Fault);
            }
            found.push(self.memory.word(request + request_sock as u64)?);
            request = self.memory.word(request + next_request as u64)?;
        }
        Ok(found)
    }

    /// The addresses of both ends of one that waits to be accepted: this one first.
    pub(super) fn waiting_ends(
        &mut self,
        listener: BorrowedFd<'_>,
        sock: Address,
        is_v6: bool,
    ) -> Result<(SocketAddr, SocketAddr), ReadError> {
        let (mut local, remote) = self.ends(sock, is_v6)?;
        if local.port() == 0 {
            // It was reset, and has given up the port that all of them share.
            let listener = self.socks(&[listener])?[0];
            local.set_port(self.ends(listener, is_v6)?.0.port());
        }
        Ok((local, remote))
    }

    /// The addresses of both ends of a connection: this one first.
    pub(super) fn ends(
        &mut self,
        sock: Address,
        is_v6: bool,
    ) -> Result<(SocketAddr, SocketAddr), ReadError> {
        let Layout { ends, ends_v6, ports, .. } = self.layout;
        let at = sock + ports as u64;
        let [a, b, c, d] = (self.memory.word(at)? as u32).to_ne_bytes();
        // The peer's port is in the order of the network, the other is not.
        let (remote, local) = (u16::from_be_bytes([a, b]), u16::from_ne_bytes([c, d]));
        let len = if is_v6 { 16 } else { 4 };
        let bytes =
            self.memory.read(&[sock + if is_v6 { ends_v6 } else { ends } as u64], 2 * len)?;
        let address = |bytes: &[u8]| match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes))
        {
            (Ok(bytes), _) => Ok(IpAddr::from(bytes)),
            (_, Ok(bytes)) => Ok(IpAddr::from(bytes)),
            _ => Err(ReadError::Fault),
        };
        let (remote_ip, local_ip) = (address(&bytes[..len])?, address(&bytes[len..])?);
        Ok((SocketAddr::new(local_ip, local), SocketAddr::new(remote_ip, remote)))
    }
}
