//! Datagrams that wait in a UDP socket's queue.
//!
//! Truth from: `recvmsg(2)` with `MSG_PEEK`, and [`PeekOffset`] for those behind
//! the first. Where one was sent to, the interface it came in by, how far it
//! could still have gone and its class are known if the socket asks for them;
//! if it does not, its program cannot tell either.
//! Image: `sk_packet_entry` in `sk-queues.img`, with a part of our own.
//! Fill: each is sent anew, as a packet that has its first sender's address, by
//! a raw socket of this process: what is sent to an address of this host comes
//! in at once, by the loopback interface, and counts as come in by the one that
//! the raw socket is bound to.
//! Not preserved: the time of arrival; of one sent to a group, how far it could
//! still have gone; that one was sent to all (broadcast), which looks as if it
//! was sent to this host alone; how many pieces the kernel has put together
//! (`UDP_GRO`).

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dormouse_image::proto::files::socket::{SkDatagramEntry, SkPacketEntry};
use dormouse_kernel::Errno;
use dormouse_kernel::socket::{self, PeekOffset, SocketOption, peek_datagram};
use rustix::net::{SendFlags, getsockname, sendto};

use super::inside::{Headers, Waiting};
use super::listing::make;
use super::memberships::{bytes as address_bytes, from_bytes};
use super::options::Kind;
use crate::file::option_names::UDP_GRO;
use crate::file::{FileId, interfaces};
use crate::{Error, Result};

/// A datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    bytes: Vec<u8>,
    from: (IpAddr, u16),
    to: Option<IpAddr>,
    /// The index of the interface it came in by.
    interface: Option<u32>,
    ttl: Option<u8>,
    tos: Option<u8>,
    /// Bytes of each of the pieces it is made of.
    segment: Option<u16>,
}

/// The most that fits a packet on the loopback interface, whose packets have
/// 65536 bytes at most, and IPv4's 65535.
const fn longest(v6: bool) -> usize {
    if v6 { 65_536 - 40 - UDP_HEADER } else { 65_535 - 20 - UDP_HEADER }
}

const UDP_HEADER: usize = 8;

/// How long a datagram may take from here to here.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is wrong with a queue.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// One is too long to be sent again.
    TooLong,
    /// It is not what the kernel has.
    Moving,
    Kernel(Errno),
}

impl From<Errno> for Unreadable {
    fn from(error: Errno) -> Self {
        Self::Kernel(error)
    }
}

/// Looks at all that wait, first to be read first. `waiting` is what the
/// kernel has. A socket that is bound to the address of a group gets what comes
/// in where it is a member, so where that was matters.
pub(super) fn peek_all(
    socket: BorrowedFd<'_>,
    waiting: Vec<Waiting>,
    of_group: bool,
) -> Result<Vec<Datagram>, Unreadable> {
    let offset = PeekOffset::of(socket)?;
    let (mut seen, mut position) = (VecDeque::new(), 0);
    loop {
        offset.set(position)?;
        let datagram = match peek_datagram(socket) {
            Ok(datagram) if datagram.from.is_empty() => break,
            Ok(datagram) => datagram,
            Err(Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        };
        position += datagram.bytes.len();
        seen.push_back(Datagram::new(datagram)?);
    }
    let mut found = Vec::new();
    for Waiting { len, interface, headers } in waiting {
        let is_next = |next: &Datagram| {
            next.bytes.len() == len && headers.as_ref().is_none_or(|it| it.from == next.from)
        };
        let next = if seen.front().is_some_and(is_next) { seen.pop_front() } else { None };
        match (next, headers) {
            (Some(mut next), _) => {
                next.interface =
                    next.interface.or((of_group && interface != 0).then_some(interface));
                found.push(next);
            }
            // It was shown before.
            (None, Some(headers)) => found.push(Datagram::empty(headers, interface)),
            (None, None) => return Err(Unreadable::Moving),
        }
    }
    // What has come in since.
    found.extend(seen);
    Ok(found)
}

/// A `struct sockaddr_in` or `sockaddr_in6`: address, port, interface.
fn parse_address(raw: &[u8]) -> Option<(IpAddr, u16, u32)> {
    let family = i32::from(u16::from_ne_bytes(*raw.first_chunk()?));
    let port = u16::from_be_bytes(*raw.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => Some((from_bytes(raw.get(4..8)?)?, port, 0)),
        libc::AF_INET6 => {
            let scope = u32::from_ne_bytes(*raw.get(24..)?.first_chunk()?);
            Some((from_bytes(raw.get(8..24)?)?.to_canonical(), port, scope))
        }
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u32> {
    match *value {
        [a] => Some(a.into()),
        _ => value.first_chunk().map(|&bytes| u32::from_ne_bytes(bytes)),
    }
}

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
const UDP: i32 = libc::IPPROTO_UDP;

impl Datagram {
    fn new(datagram: socket::Datagram) -> Result<Self, Unreadable> {
        let socket::Datagram { bytes, from, control } = datagram;
        let (from, port, scope) = parse_address(&from).ok_or(Errno::AFNOSUPPORT)?;
        if bytes.len() > longest(from.is_ipv6()) {
            return Err(Unreadable::TooLong);
        }
        let mut new = Self {
            bytes,
            from: (from, port),
            to: None,
            interface: (scope != 0).then_some(scope),
            ttl: None,
            tos: None,
            segment: None,
        };
        for (level, kind, value) in control {
            new.take(level, kind, &value);
        }
        Ok(new)
    }

    /// One without bytes.
    fn empty(headers: Headers, interface: u32) -> Self {
        let Headers { from, to, ttl, tos } = headers;
        Self {
            bytes: Vec::new(),
            from,
            to: Some(to),
            interface: (interface != 0).then_some(interface),
            ttl: Some(ttl),
            tos: Some(tos),
            segment: None,
        }
    }

    /// Takes what came with it.
    fn take(&mut self, level: i32, kind: i32, value: &[u8]) {
        let byte = || number(value).and_then(|number| u8::try_from(number).ok());
        match (level, kind) {
            // struct in_pktinfo: interface, address of this host, address.
            (IP, libc::IP_PKTINFO) => {
                self.interface = number(value).filter(|&index| index != 0);
                let at = |from| value.get(from..from + 4).and_then(from_bytes);
                let to = at(8).filter(|to| to.is_multicast() || at(4) == Some(*to));
                self.to = to.or_else(|| at(4));
            }
            // struct in6_pktinfo: address, interface.
            (IPV6, libc::IPV6_PKTINFO | libc::IPV6_2292PKTINFO) => {
                self.interface = value.get(16..).and_then(number).filter(|&index| index != 0);
                let to = value.get(..16).and_then(from_bytes);
                self.to = self.to.or(to.map(|to| to.to_canonical()));
            }
            (IP, libc::IP_RECVORIGDSTADDR) | (IPV6, libc::IPV6_ORIGDSTADDR) => {
                self.to = self.to.or(parse_address(value).map(|(address, _, _)| address));
            }
            (IP, libc::IP_TTL) | (IPV6, libc::IPV6_HOPLIMIT | libc::IPV6_2292HOPLIMIT) => {
                self.ttl = byte();
            }
            (IP, libc::IP_TOS) | (IPV6, libc::IPV6_TCLASS) => self.tos = byte(),
            (UDP, UDP_GRO) => {
                self.segment = number(value).and_then(|number| u16::try_from(number).ok());
            }
            _ => {}
        }
    }

    /// As images have it.
    pub(super) fn encode(&self, id: FileId) -> Result<(SkPacketEntry, Vec<u8>)> {
        let Self { bytes, from, to, interface, ttl, tos, segment } = self;
        let datagram = SkDatagramEntry {
            from: address_bytes(from.0),
            port: from.1.into(),
            to: to.map(address_bytes),
            ifname: interface.map(interfaces::name).transpose()?,
            ttl: ttl.map(u32::from),
            tos: tos.map(u32::from),
            segment: segment.map(u32::from),
        };
        let entry = SkPacketEntry {
            id_for: id.as_raw(),
            length: bytes.len() as u32,
            datagram: Some(datagram),
            ..SkPacketEntry::default()
        };
        Ok((entry, bytes.clone()))
    }

    /// Judges what an image has. `interface` is the index of the one it names.
    pub(super) fn decode(
        entry: &SkDatagramEntry,
        bytes: Vec<u8>,
        kind: Kind,
        interface: Option<u32>,
    ) -> Result<Self, &'static str> {
        let SkDatagramEntry { from, port, to, ifname: _, ttl, tos, segment } = entry;
        let address = |bytes: &[u8]| {
            let address = from_bytes(bytes).filter(|address| kind.is_v6() || address.is_ipv4());
            address.ok_or("an address of a datagram is none")
        };
        let byte = |number: Option<u32>| number.map(u8::try_from).transpose();
        let from = address(from)?;
        let to = to.as_deref().map(address).transpose()?;
        if to.is_some_and(|to| to.is_ipv4() != from.is_ipv4()) {
            return Err("the addresses of a datagram are of two families");
        }
        if bytes.len() > longest(from.is_ipv6()) {
            return Err("a datagram is too long");
        }
        let segment = segment.map(u16::try_from).transpose().ok().filter(|&it| it != Some(0));
        Ok(Self {
            bytes,
            from: (from, u16::try_from(*port).map_err(|_| "the port of a datagram is none")?),
            to,
            interface,
            ttl: byte(*ttl).map_err(|_| "how far a datagram can go is no byte")?,
            tos: byte(*tos).map_err(|_| "the class of a datagram is no byte")?,
            segment: segment.ok_or("the pieces of a datagram have no length")?,
        })
    }
}

/// A socket that datagrams are to come to.
pub(super) struct Receiver<'a> {
    pub(super) file: BorrowedFd<'a>,
    /// UDP or UDP-Lite.
    pub(super) kind: Kind,
    pub(super) local: SocketAddr,
    /// The interface it is bound to.
    pub(super) device: Option<&'a [u8]>,
    /// Others that are to get datagrams of their own have its port.
    pub(super) is_crowded: bool,
}

impl Receiver<'_> {
    /// Has a datagram come to the socket.
    pub(super) fn deliver(&self, datagram: &Datagram) -> Result<()> {
        let pieces: Vec<&[u8]> = match datagram.segment {
            Some(len) if !datagram.bytes.is_empty() => datagram.bytes.chunks(len.into()).collect(),
            _ => vec![&datagram.bytes],
        };
        pieces.into_iter().try_for_each(|bytes| self.send(datagram, bytes))
    }

    fn send(&self, datagram: &Datagram, bytes: &[u8]) -> Result<()> {
        let failed = |call| Error::kernel(call, SocketAddr::from(datagram.from).to_string());
        let device = match datagram.interface {
            Some(index) => Some(interfaces::name(index)?),
            None => self.device.map(<[u8]>::to_vec),
        };
        if self.is_crowded {
            // Who is connected to the sender comes before all others.
            let peer = self.peer(datagram);
            rustix::net::connect(self.file, &peer).map_err(failed("connect"))?;
        }
        let before = received(self.file).map_err(failed("SO_MEMINFO"))?;
        let sent = match self.send_to(datagram, bytes, datagram.to, device.as_deref()) {
            // It was for all hosts, and is not to go there again.
            Err(Errno::ACCESS) => self.send_to(datagram, bytes, None, device.as_deref()),
            sent => sent,
        };
        sent.map_err(failed("sendto"))?;
        let started = Instant::now();
        while received(self.file).map_err(failed("SO_MEMINFO"))? == before {
            if started.elapsed() > PATIENCE {
                return Err(Error::Unsupported {
                    object: "a UDP socket",
                    detail: self.local.to_string().into(),
                    reason: "a datagram that was in its queue does not get through to it",
                    hint: "see that no firewall stops it, and that no other program has the port",
                });
            }
            sleep(Duration::from_micros(200));
        }
        if self.is_crowded {
            socket::disconnect(self.file).map_err(failed("connect"))?;
        }
        Ok(())
    }

    fn send_to(
        &self,
        datagram: &Datagram,
        bytes: &[u8],
        to: Option<IpAddr>,
        device: Option<&[u8]>,
    ) -> Result<(), Errno> {
        let to = self.destination(datagram, to, device)?;
        let raw = raw_socket(to, device)?;
        let packet = packet(datagram, bytes, SocketAddr::new(to, self.local.port()), self.kind);
        let address = match (to, datagram.interface) {
            (IpAddr::V6(to), scope) => SocketAddrV6::new(to, 0, 0, scope.unwrap_or(0)).into(),
            (to, _) => SocketAddr::new(to, 0),
        };
        sendto(&raw, &packet, SendFlags::empty(), &address).map(drop)
    }

    /// The sender, as an address of the socket's family.
    fn peer(&self, datagram: &Datagram) -> SocketAddr {
        let (from, port) = datagram.from;
        match from {
            IpAddr::V4(from) if self.kind.is_v6() => {
                SocketAddr::new(from.to_ipv6_mapped().into(), port)
            }
            IpAddr::V6(from) => {
                SocketAddrV6::new(from, port, 0, datagram.interface.unwrap_or(0)).into()
            }
            from => SocketAddr::new(from, port),
        }
    }

    /// An address that leads to the socket: `to`, if it can be chosen.
    fn destination(
        &self,
        datagram: &Datagram,
        to: Option<IpAddr>,
        device: Option<&[u8]>,
    ) -> Result<IpAddr, Errno> {
        let bound = match getsockname(self.file)?.try_into() {
            Ok(address) => SocketAddr::ip(&address).to_canonical(),
            Err(_) => return Err(Errno::AFNOSUPPORT),
        };
        if !bound.is_unspecified() {
            return Ok(bound);
        }
        if let Some(to) = to {
            return Ok(to);
        }
        let v6 = datagram.from.0.is_ipv6();
        let loopback =
            || if v6 { Ipv6Addr::LOCALHOST.into() } else { IpAddr::from(Ipv4Addr::LOCALHOST) };
        let Some(device) = device else { return Ok(loopback()) };
        // Its own address there.
        let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
        let probe = make(Kind { family, kind: libc::SOCK_DGRAM, protocol: 0 })?;
        bind_to_device(probe.as_fd(), device)?;
        let scope = datagram.interface.unwrap_or(0);
        let peer = match datagram.from.0 {
            IpAddr::V6(from) => SocketAddrV6::new(from, 9, 0, scope).into(),
            from => SocketAddr::new(from, 9),
        };
        rustix::net::connect(&probe, &peer)?;
        let address: SocketAddr =
            getsockname(&probe)?.try_into().map_err(|_| Errno::AFNOSUPPORT)?;
        Ok(address.ip())
    }
}

/// Bytes of memory that what waits to be read takes.
pub(super) fn received(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    // SK_MEMINFO_RMEM_ALLOC comes first, include/uapi/linux/sock_diag.h.
    let mut info = [0; 36];
    SocketOption::of_socket(libc::SO_MEMINFO).get_into(socket, &mut info)?;
    Ok(info.first_chunk().map_or(0, |&bytes| u32::from_ne_bytes(bytes)))
}

fn bind_to_device(socket: BorrowedFd<'_>, device: &[u8]) -> Result<(), Errno> {
    SocketOption::of_socket(libc::SO_BINDTODEVICE).set_bytes(socket, device)
}

/// A socket that whole packets are sent by, to an address of this host or a
/// group.
fn raw_socket(to: IpAddr, device: Option<&[u8]>) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let raw = make(Kind { family, kind: libc::SOCK_RAW, protocol: libc::IPPROTO_RAW })?;
    if let Some(device) = device {
        bind_to_device(raw.as_fd(), device)?;
    }
    Ok(raw)
}

/// The packet that a datagram came in.
fn packet(datagram: &Datagram, bytes: &[u8], to: SocketAddr, kind: Kind) -> Vec<u8> {
    let (from, port) = datagram.from;
    let udp = udp(bytes, SocketAddr::new(from, port), to, kind.protocol);
    let tos = datagram.tos.unwrap_or(0);
    // To a group, it goes no further than to this host.
    let ttl = if to.ip().is_multicast() { 0 } else { datagram.ttl.unwrap_or(64) };
    let protocol = kind.protocol as u8;
    let mut packet = match (from, to.ip()) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let class = 6 << 28 | u32::from(tos) << 20;
            let mut header = class.to_be_bytes().to_vec();
            header.extend((udp.len() as u16).to_be_bytes());
            header.extend([protocol, ttl]);
            header.extend([from.octets(), to.octets()].as_flattened());
            header
        }
        (from, to) => {
            // The kernel fills in length, number and checksum.
            let mut header = vec![0x45, tos, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0];
            header.extend(address_bytes(from));
            header.extend(address_bytes(to));
            header
        }
    };
    packet.extend(udp);
    packet
}

/// Header (ports, length or how much the checksum covers, checksum) and bytes.
fn udp(bytes: &[u8], from: SocketAddr, to: SocketAddr, protocol: i32) -> Vec<u8> {
    let len = (UDP_HEADER + bytes.len()) as u16;
    // Zero means all, for UDP-Lite.
    let covered = if protocol == libc::IPPROTO_UDP { len } else { 0 };
    let mut udp = Vec::with_capacity(len.into());
    udp.extend([from.port(), to.port(), covered, 0].map(u16::to_be_bytes).as_flattened());
    udp.extend(bytes);
    let mut sum = [from, to].iter().map(|side| sum(&address_bytes(side.ip()))).sum::<u64>();
    sum += u64::from(len) + u64::from(protocol.cast_unsigned()) + self::sum(&udp);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Zero would say that there is none.
    let checksum = match !(sum as u16) {
        0 => u16::MAX,
        checksum => checksum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    udp
}

fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |&byte| u64::from(byte) << 8);
    pairs.iter().map(|&pair| u64::from(u16::from_be_bytes(pair))).sum::<u64>() + last
}
