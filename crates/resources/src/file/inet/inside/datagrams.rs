//! Datagrams that wait in a socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use epoll_interest::kernel_memory::{Address, KernelMemory, ReadError};

use super::{Inside, InsideError, Layout, MOST};

/// A datagram in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Waiting {
    /// Bytes.
    pub(in super::super) len: usize,
    /// The interface it came in by.
    pub(in super::super) interface: u32,
    /// What its headers say; only read of empty ones.
    pub(in super::super) headers: Option<Headers>,
}

/// Headers of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Headers {
    pub(in super::super) from: (IpAddr, u16),
    pub(in super::super) to: IpAddr,
    pub(in super::super) ttl: u8,
    pub(in super::super) tos: u8,
}

impl Inside {
    /// Whether a datagram waits in the socket for the program to complete it.
    pub(in super::super) fn holds_back(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<bool, InsideError> {
        let queue = self.socks(&[socket])?[0] + self.layout.write_queue as u64;
        // Without packets, the queue leads back to itself.
        Ok(self.memory.word(queue)? != queue)
    }

    /// The datagrams that wait in a UDP socket, first to be read first.
    pub(in super::super) fn waiting(
        &mut self,
        socket: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Vec<Waiting>, InsideError> {
        self.steady(|inside| inside.try_waiting(socket, is_v6))
    }

    fn try_waiting(
        &mut self,
        socket: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Vec<Waiting>, ReadError> {
        let Layout { queue, reader_queue, len, told_interface, interface, .. } = self.layout;
        let sock = self.socks(&[socket])?[0];
        let mut found = Vec::new();
        // The kernel moves all from one to the other when the other is empty.
        for queue in [sock + reader_queue as u64, sock + queue as u64] {
            // Each begins with the next; the last leads back.
            let mut packet = self.memory.word(queue)?;
            while packet != queue {
                if found.len() >= MOST {
                    return Err(ReadError::Fault);
                }
                let len = self.memory.word(packet + len as u64)? as u32 as usize;
                let headers = if len == 0 { Some(self.headers(packet, is_v6)?) } else { None };
                let told = self.memory.word(packet + told_interface as u64)? as u32;
                let interface = match told {
                    0 => self.memory.word(packet + interface as u64)? as u32,
                    told => told,
                };
                found.push(Waiting { len, interface, headers });
                packet = self.memory.word(packet)?;
            }
        }
        Ok(found)
    }

    fn headers(&mut self, packet: Address, is_v6: bool) -> Result<Headers, ReadError> {
        let Layout { head, network_header, transport_header, .. } = self.layout;
        let head = self.memory.word(packet + head as u64)?;
        let place = |memory: &mut KernelMemory, at: usize| {
            memory.word(packet + at as u64).map(|word| head + u64::from(word as u16))
        };
        let network = place(&mut self.memory, network_header)?;
        let transport = place(&mut self.memory, transport_header)?;
        let ip = self.memory.read(&[network], 40)?;
        let udp = self.memory.read(&[transport], 8)?;
        let port = u16::from_be_bytes([udp[0], udp[1]]);
        let v4 = |at: usize| IpAddr::from(Ipv4Addr::from([0, 1, 2, 3].map(|byte| ip[at + byte])));
        let v6 = |at: usize| {
            let bytes: [u8; 16] = std::array::from_fn(|byte| ip[at + byte]);
            IpAddr::from(Ipv6Addr::from(bytes))
        };
        Ok(if is_v6 && ip[0] >> 4 == 6 {
            let tos = ip[0] << 4 | ip[1] >> 4;
            Headers { from: (v6(8), port), to: v6(24), ttl: ip[7], tos }
        } else {
            Headers { from: (v4(12), port), to: v4(16), ttl: ip[8], tos: ip[1] }
        })
    }
}
