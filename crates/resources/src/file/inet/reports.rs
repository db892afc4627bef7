//! What the network has said of datagrams that a UDP socket has sent, as long as its program
//! has not asked (`IP_RECVERR`, `MSG_ERRQUEUE`).
//!
//! Kernel object: `sk_error_queue`, `sk_err`.
//! Truth from: the kernel's memory, for whoever asks by a call takes it.
//! Fill: messages of ICMP, in the name of those who have sent them.
//! Refused: what was not said by ICMP over IPv4: time stamps, notices of `MSG_ZEROCOPY`, errors of this
//! host; that a datagram is too long, which would shorten others; a port that sockets share.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dormouse_image::proto::files::inet::InetReportEntry;
use dormouse_kernel::Errno;
use dormouse_kernel::netfilter::PASSING_MARK;
use dormouse_kernel::socket::SocketOption;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with,
};

use super::datagrams::received;
use super::ended::has_something_to_tell;
use super::listing::Listing;
use super::options::Kind;
use crate::{Error, Result};

/// What one of them has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Who has.
    pub(super) from: Ipv4Addr,
    /// Type and code of the message.
    pub(super) sort: (u8, u8),
    /// `ee_info`.
    pub(super) info: u32,
    /// From where the datagram was sent, and to where.
    pub(super) sender: Ipv4Addr,
    pub(super) receiver: SocketAddrV4,
    /// The beginning of what was in it.
    pub(super) bytes: Vec<u8>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reports {
    all: Vec<Report>,
    /// Whether the program was told by a call that there is something.
    told: bool,
}

/// How long the kernel may take for a message.
const PATIENCE: Duration = Duration::from_secs(5);

// include/uapi/linux/icmp.h
const UNREACHABLE: u8 = 3;
const TOO_LONG: u8 = 4;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER: u8 = 12;
/// What a message may have of a datagram: all of it fits into one of IPv4.
const MOST: usize = 60_000;

impl Report {
    /// Whether it can be sent again.
    fn is_known(&self) -> bool {
        let Self { sort: (sort, code), info, bytes, .. } = self;
        bytes.len() <= MOST
            && match *sort {
                UNREACHABLE => *code != TOO_LONG && *info == 0,
                TIME_EXCEEDED => *info == 0,
                PARAMETER => *info <= u8::MAX.into(),
                _ => false,
            }
    }

    /// The whole packet, from the header of IP on; `port` is that of the sender.
    fn packet(&self, port: u16) -> Vec<u8> {
        let Self { from, sort, info, sender, receiver, bytes } = self;
        let header = |protocol: i32, from: &Ipv4Addr, to: &Ipv4Addr, len: usize| {
            let mut header = vec![0x45, 0];
            header.extend(((20 + len) as u16).to_be_bytes());
            header.extend([0, 0, 0, 0, 64, protocol as u8, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            header
        };
        let len = (8 + bytes.len()) as u16;
        let mut message = vec![sort.0, sort.1, 0, 0, *info as u8, 0, 0, 0];
        message.extend(header(libc::IPPROTO_UDP, sender, receiver.ip(), len.into()));
        message.extend([port, receiver.port(), len, 0].map(u16::to_be_bytes).as_flattened());
        message.extend_from_slice(bytes);
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        // Checksums of IP are the kernel's to fill in; nobody looks at the inner one.
        let mut packet = header(libc::IPPROTO_ICMP, from, sender, message.len());
        packet.extend(message);
        packet
    }

    fn encode(&self) -> InetReportEntry {
        let Self { from, sort, info, sender, receiver, bytes } = self;
        InetReportEntry {
            from: from.to_bits(),
            kind: sort.0.into(),
            code: sort.1.into(),
            info: *info,
            src_addr: sender.to_bits(),
            dst_addr: receiver.ip().to_bits(),
            dst_port: receiver.port().into(),
            bytes: bytes.clone(),
        }
    }

    fn decode(entry: &InetReportEntry) -> Option<Self> {
        let InetReportEntry { from, kind, code, info, src_addr, dst_addr, dst_port, bytes } = entry;
        let byte = |number: &u32| u8::try_from(*number).ok();
        let report = Self {
            from: Ipv4Addr::from_bits(*from),
            sort: (byte(kind)?, byte(code)?),
            info: *info,
            sender: Ipv4Addr::from_bits(*src_addr),
            receiver: SocketAddrV4::new(
                Ipv4Addr::from_bits(*dst_addr),
                u16::try_from(*dst_port).ok()?,
            ),
            bytes: bytes.clone(),
        };
        report.is_known().then_some(report)
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |&byte| u32::from(byte) << 8);
    let sum = words.iter().map(|&word| u32::from(u16::from_be_bytes(word))).sum::<u32>() + last;
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

impl Reports {
    /// Those that wait in a socket; `None` if there is anything else.
    pub(super) fn collect(
        listing: &mut Listing,
        socket: BorrowedFd<'_>,
        (kind, local): (Kind, Option<SocketAddr>),
    ) -> Result<Option<Self>> {
        let is_own = |name| SocketOption::of_socket(name).get(socket) == Ok(0);
        let possible = kind.family == libc::AF_INET
            && kind.protocol == libc::IPPROTO_UDP
            && local.is_some_and(|local| local.port() != 0);
        if !possible || !has_something_to_tell(socket)? || !is_own(libc::SO_REUSEPORT) {
            return Ok(None);
        }
        let inside = listing.inside().map_err(Error::InetReader)?;
        let found = inside.reports(socket).map_err(Error::InetReader)?;
        let Some((all, last, error)) = found else { return Ok(None) };
        // What comes next is told with the last of those that have come.
        let possible =
            !all.is_empty() && all.iter().all(Report::is_known) && (error == 0 || error == last);
        Ok(possible.then_some(Self { all, told: error == 0 }))
    }

    pub(super) fn encode(&self) -> (Vec<InetReportEntry>, Option<bool>) {
        let Self { all, told } = self;
        (all.iter().map(Report::encode).collect(), (!all.is_empty()).then_some(*told))
    }

    /// Judges what an image has of a socket.
    pub(super) fn decode(
        (entries, told): (&[InetReportEntry], Option<bool>),
        (kind, local): (Kind, Option<SocketAddr>),
    ) -> Result<Self, &'static str> {
        let has_port = local.is_some_and(|local| local.port() != 0);
        let is_udp = kind.family == libc::AF_INET && kind.protocol == libc::IPPROTO_UDP;
        let possible = is_udp && has_port;
        if !(entries.is_empty() || possible) {
            return Err("nobody can have told it what became of its datagrams");
        }
        let all: Option<_> = entries.iter().map(Report::decode).collect();
        let all = all.ok_or("what became of its datagrams cannot be told again")?;
        Ok(Self { all, told: told.unwrap_or(false) })
    }

    /// Has them come to a socket.
    pub(super) fn come(&self, socket: BorrowedFd<'_>, local: Option<SocketAddr>) -> Result<()> {
        let Some(local) = local.filter(|_| !self.all.is_empty()) else { return Ok(()) };
        let failed = |call| Error::kernel(call, "a UDP socket");
        let flags = SocketFlags::CLOEXEC;
        let raw = socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::RAW))
            .map_err(failed("socket"))?;
        SocketOption::of_socket(libc::SO_MARK)
            .set(&raw, PASSING_MARK.cast_signed())
            .map_err(failed("SO_MARK"))?;
        for report in &self.all {
            let before = received(socket).map_err(failed("SO_MEMINFO"))?;
            let to = SocketAddr::new(report.sender.into(), 0);
            let packet = report.packet(local.port());
            sendto(&raw, &packet, SendFlags::empty(), &to).map_err(failed("sendto"))?;
            let started = Instant::now();
            while received(socket).map_err(failed("SO_MEMINFO"))? == before {
                if started.elapsed() > PATIENCE {
                    return Err(failed("a message of ICMP")(Errno::TIME));
                }
                sleep(Duration::from_micros(100));
            }
        }
        if self.told {
            SocketOption::of_socket(libc::SO_ERROR).get(socket).map_err(failed("SO_ERROR"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            from: Ipv4Addr::new(192, 0, 2, 1),
            sort: (UNREACHABLE, 3),
            info: 0,
            sender: Ipv4Addr::LOCALHOST,
            receiver: "198.51.100.7:9".parse().unwrap(),
            bytes: b"odd".to_vec(),
        }
    }

    #[test]
    fn what_a_message_says_adds_up() {
        let packet = report().packet(4660);
        assert_eq!(packet.len(), 20 + 8 + 20 + 8 + 3);
        assert_eq!(checksum(&packet[20..]), 0);
        assert_eq!(packet[2..4], 59_u16.to_be_bytes());
        assert_eq!(packet[48..50], 4660_u16.to_be_bytes());
    }

    #[test]
    fn what_would_do_more_is_refused() {
        for sort in [(UNREACHABLE, TOO_LONG), (5, 0), (0, 0)] {
            assert_eq!(Report::decode(&Report { sort, ..report() }.encode()), None);
        }
        assert_eq!(Report::decode(&report().encode()), Some(report()));
    }
}
