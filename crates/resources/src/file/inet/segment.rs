//! Segments that are put on this host's way in, in the name of a peer.

use std::net::{IpAddr, SocketAddr};

use dormouse_kernel::netfilter::PASSING_MARK;
use dormouse_kernel::socket::SocketOption;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with,
};

use crate::{Error, Result};

/// What a segment says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// That there shall be one; and whether the peer heeds notices of congestion.
    Asks { notices: bool },
    /// Nothing.
    Plain,
    /// A byte of it is out of band: where the header points.
    Urgent { pointer: u16 },
    /// Nothing more comes.
    Finishes,
    /// There is none any more.
    Resets,
}

/// A segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    /// The peer.
    pub(super) from: SocketAddr,
    /// The socket here.
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    /// As it stands in the header.
    pub(super) window: u16,
    pub(super) sort: Sort,
    /// A multiple of four bytes.
    pub(super) options: &'a [u8],
    pub(super) bytes: &'a [u8],
    /// Its priority on the way (`SO_PRIORITY`).
    pub(super) priority: u32,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const URG: u8 = 32;
const ECE_AND_CWR: u8 = 64 | 128;

/// Sends a segment, as a rule to this host itself; a lock of the network lets it
/// pass.
pub(super) fn inject(segment: Segment<'_>) -> Result<()> {
    let failed = |call| Error::kernel(call, "a raw socket");
    let to = SocketAddr::new(segment.to.ip().to_canonical(), 0);
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC;
    let raw = socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW))
        .map_err(failed("socket"))?;
    SocketOption::of_socket(libc::SO_MARK)
        .set(&raw, PASSING_MARK.cast_signed())
        .map_err(failed("SO_MARK"))?;
    if segment.priority != 0 {
        SocketOption::of_socket(libc::SO_PRIORITY)
            .set(&raw, segment.priority.cast_signed())
            .map_err(failed("SO_PRIORITY"))?;
    }
    match sendto(&raw, &packet(&segment), SendFlags::empty(), &to) {
        Ok(_) => Ok(()),
        Err(source) => Err(failed("sendto")(source)),
    }
}

/// The whole packet, from the header of IP on.
fn packet(segment: &Segment<'_>) -> Vec<u8> {
    let mut tcp = header(segment);
    tcp.extend_from_slice(segment.bytes);
    let len = tcp.len() as u16;
    let mut packet = Vec::with_capacity(40 + tcp.len());
    match (segment.from.ip().to_canonical(), segment.to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            // Length, number and checksum are the kernel's to fill in.
            packet.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, libc::IPPROTO_TCP as u8, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        (from, to) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(len.to_be_bytes());
            packet.extend([libc::IPPROTO_TCP as u8, 64]);
            for address in [from, to] {
                if let IpAddr::V6(address) = address {
                    packet.extend(address.octets());
                }
            }
        }
    }
    packet.extend(tcp);
    packet
}

/// The header of TCP, with its checksum.
fn header(segment: &Segment<'_>) -> Vec<u8> {
    let Segment { from, to, sequence, acknowledged, window, sort, options, bytes, priority: _ } =
        *segment;
    let flags = match sort {
        Sort::Asks { notices: false } => SYN,
        Sort::Asks { notices: true } => SYN | ECE_AND_CWR,
        Sort::Plain => ACK,
        Sort::Urgent { .. } => URG | ACK,
        Sort::Finishes => FIN | ACK,
        Sort::Resets => RST | ACK,
    };
    let pointer = match sort {
        Sort::Urgent { pointer } => pointer,
        _ => 0,
    };
    let mut header = Vec::with_capacity(20 + options.len());
    header.extend([from.port(), to.port()].map(u16::to_be_bytes).as_flattened());
    header.extend([sequence, acknowledged].map(u32::to_be_bytes).as_flattened());
    header.extend([((5 + options.len() / 4) << 4) as u8, flags]);
    header.extend([window, 0, pointer].map(u16::to_be_bytes).as_flattened());
    header.extend_from_slice(options);
    let mut covered = Vec::new();
    for address in [from.ip().to_canonical(), to.ip().to_canonical()] {
        match address {
            IpAddr::V4(address) => covered.extend(address.octets()),
            IpAddr::V6(address) => covered.extend(address.octets()),
        }
    }
    covered.extend([0, libc::IPPROTO_TCP as u8]);
    covered.extend(((header.len() + bytes.len()) as u16).to_be_bytes());
    covered.extend_from_slice(&header);
    covered.extend_from_slice(bytes);
    covered.resize(covered.len().next_multiple_of(2), 0);
    let (words, _) = covered.as_chunks::<2>();
    let mut sum: u32 = words.iter().map(|&word| u32::from(u16::from_be_bytes(word))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::{Segment, Sort, header};

    #[test]
    fn the_checksum_covers_all() {
        let segment = Segment {
            from: "127.0.0.1:4660".parse().unwrap(),
            to: "127.0.0.1:22136".parse().unwrap(),
            sequence: 1,
            acknowledged: 2,
            window: 3,
            sort: Sort::Finishes,
            options: &[],
            bytes: b"odd",
            priority: 0,
        };
        let header = header(&segment);
        // With the addresses, protocol 6, length 23 and the bytes, all words add
        // up to nothing but ones.
        let (words, _) = header.as_chunks::<2>();
        let sum: u32 = words.iter().map(|&word| u32::from(u16::from_be_bytes(word))).sum();
        let sum = sum + 2 * (0x7f00 + 1) + 6 + 23 + 0x6f64 + 0x6400;
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
