//! What the network has said of datagrams.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::BorrowedFd;

use epoll_interest::kernel_memory::{Address, ReadError};

use super::super::reports::Report;
use super::{Inside, InsideError, Layout, MOST};

/// `SO_EE_ORIGIN_ICMP`.
const ICMP: u8 = 2;
/// More bytes than a message of ICMP has.
const LONGEST: u32 = 1 << 16;

impl Inside {
    /// What was said of datagrams that a UDP socket of IPv4 has sent, first to be read first; the
    /// errors that the last stands for, and that the socket has to tell. `None` if anything
    /// else waits with it.
    pub(in super::super) fn reports(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<Option<(Vec<Report>, u32, u32)>, InsideError> {
        self.steady(|inside| inside.try_reports(socket))
    }

    fn try_reports(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<Option<(Vec<Report>, u32, u32)>, ReadError> {
        let Layout { errors, error, .. } = self.layout;
        let sock = self.socks(&[socket])?[0];
        let queue = sock + errors as u64;
        let (mut found, mut last) = (Vec::new(), 0);
        // Each begins with the next; the last leads back.
        let mut packet = self.memory.word(queue)?;
        while packet != queue {
            if found.len() >= MOST {
                return Err(ReadError::Fault);
            }
            let Some((report, errno)) = self.report(packet)? else { return Ok(None) };
            found.push(report);
            last = errno;
            packet = self.memory.word(packet)?;
        }
        Ok(Some((found, last, self.memory.word(sock + error as u64)? as u32)))
    }

    fn report(&mut self, packet: Address) -> Result<Option<(Report, u32)>, ReadError> {
        let Layout { head, network_header, len, data, len_elsewhere, .. } = self.layout;
        // `struct sock_exterr_skb` in the control block.
        let Layout { told_interface: control, said, said_of, said_port, .. } = self.layout;
        let at = |offset: usize| packet + offset as u64;
        let said = self.memory.bytes(at(control + said), 16)?;
        let half = |at: usize| u32::from_ne_bytes(std::array::from_fn(|byte| said[at + byte]));
        // struct sock_extended_err: the error, origin, type, code, padding, information.
        let (errno, origin, sort, info) = (half(0), said[4], (said[5], said[6]), half(8));
        let bytes = self.memory.word(at(len))? as u32;
        let elsewhere = self.memory.word(at(len_elsewhere))? as u32;
        if origin != ICMP || elsewhere != 0 || bytes > LONGEST {
            return Ok(None);
        }
        let of = self.memory.word(at(control + said_of))? as u16;
        let port = u16::from_be(self.memory.word(at(control + said_port))? as u16);
        let head = self.memory.word(at(head))?;
        let network = head + u64::from(self.memory.word(at(network_header))? as u16);
        let mut address = |at: u64| {
            let bytes = self.memory.bytes(at, 4)?;
            Ok::<_, ReadError>(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        };
        // Both are beside each other in a header of IP.
        let to = network + u64::from(of);
        let (from, sender, receiver) = (address(network + 12)?, address(to - 4)?, address(to)?);
        let start = self.memory.word(at(data))?;
        let bytes = self.memory.bytes(start, bytes as usize)?;
        let receiver = SocketAddrV4::new(receiver, port);
        Ok(Some((Report { from, sort, info, sender, receiver, bytes }, errno)))
    }
}
