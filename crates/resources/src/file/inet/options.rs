//! Options of the protocols: `IP_*`, `IPV6_*`, `TCP_*`, `UDP_*`.
//!
//! Read are all that the kernel tells and takes back. What differs from a new
//! socket's is kept; and what CRIU's image has a field for, always.

use std::os::fd::BorrowedFd;

use dormouse_image::proto::files::inet::{
    InetMoreOptEntry, IpOptsEntry, IpOptsRawEntry, TcpOptsEntry,
};
use dormouse_kernel::Errno;
use dormouse_kernel::socket::SocketOption;

use crate::file::option_names::{
    IP_LOCAL_PORT_RANGE, IP_RECVERR_RFC4884, IPV6_MULTICAST_ALL, IPV6_RECVERR_RFC4884,
    IPV6_ROUTER_ALERT_ISOLATE, TCP_DELACK_MAX_US, TCP_RTO_MAX_MS, TCP_RTO_MIN_US, TCP_TX_DELAY,
    UDP_CORK, UDP_ENCAP, UDP_GRO, UDP_NO_CHECK6_RX, UDP_NO_CHECK6_TX, UDP_SEGMENT,
    UDPLITE_RECV_CSCOV, UDPLITE_SEND_CSCOV,
};
use crate::file::socket_options::Options;
use crate::{Error, Result};

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
pub(super) const TCP: i32 = libc::IPPROTO_TCP;
const UDP: i32 = libc::IPPROTO_UDP;
const ICMPV6: i32 = libc::IPPROTO_ICMPV6;
const SOCKET: i32 = libc::SOL_SOCKET;
const UDPLITE: i32 = libc::IPPROTO_UDPLITE;
/// `ICMP_FILTER` is one of these.
const RAW: i32 = libc::IPPROTO_RAW;

/// `ICMP_FILTER` and `ICMPV6_FILTER`: include/uapi/linux/icmp.h, icmpv6.h.
const FILTER: i32 = 1;
/// `struct icmp6_filter`.
const LONGEST: usize = 256;

/// What is asked of every socket of the level's protocol, but for raw ones of
/// IPv6.
const IP_OPTIONS: [i32; 27] = [
    libc::IP_TOS,
    libc::IP_TTL,
    libc::IP_HDRINCL,
    libc::IP_OPTIONS,
    libc::IP_RECVOPTS,
    libc::IP_RETOPTS,
    libc::IP_PKTINFO,
    libc::IP_MTU_DISCOVER,
    libc::IP_RECVERR,
    libc::IP_RECVTTL,
    libc::IP_RECVTOS,
    libc::IP_FREEBIND,
    libc::IP_PASSSEC,
    libc::IP_TRANSPARENT,
    libc::IP_RECVORIGDSTADDR,
    libc::IP_MINTTL,
    libc::IP_NODEFRAG,
    libc::IP_CHECKSUM,
    libc::IP_BIND_ADDRESS_NO_PORT,
    libc::IP_RECVFRAGSIZE,
    IP_RECVERR_RFC4884,
    libc::IP_MULTICAST_IF,
    libc::IP_MULTICAST_TTL,
    libc::IP_MULTICAST_LOOP,
    libc::IP_MULTICAST_ALL,
    libc::IP_UNICAST_IF,
    IP_LOCAL_PORT_RANGE,
];

const IPV6_OPTIONS: [i32; 37] = [
    libc::IPV6_V6ONLY,
    libc::IPV6_UNICAST_HOPS,
    libc::IPV6_MULTICAST_IF,
    libc::IPV6_MULTICAST_HOPS,
    libc::IPV6_MULTICAST_LOOP,
    libc::IPV6_MTU_DISCOVER,
    libc::IPV6_RECVERR,
    IPV6_MULTICAST_ALL,
    IPV6_ROUTER_ALERT_ISOLATE,
    IPV6_RECVERR_RFC4884,
    libc::IPV6_FLOWINFO_SEND,
    libc::IPV6_HDRINCL,
    libc::IPV6_CHECKSUM,
    libc::IPV6_2292PKTINFO,
    libc::IPV6_2292HOPOPTS,
    libc::IPV6_2292DSTOPTS,
    libc::IPV6_2292RTHDR,
    libc::IPV6_2292HOPLIMIT,
    libc::IPV6_RECVPKTINFO,
    libc::IPV6_RECVHOPLIMIT,
    libc::IPV6_RECVHOPOPTS,
    libc::IPV6_HOPOPTS,
    libc::IPV6_RTHDRDSTOPTS,
    libc::IPV6_RECVRTHDR,
    libc::IPV6_RTHDR,
    libc::IPV6_RECVDSTOPTS,
    libc::IPV6_DSTOPTS,
    libc::IPV6_RECVPATHMTU,
    libc::IPV6_DONTFRAG,
    libc::IPV6_RECVTCLASS,
    libc::IPV6_TCLASS,
    libc::IPV6_AUTOFLOWLABEL,
    libc::IPV6_ADDR_PREFERENCES,
    libc::IPV6_MINHOPCOUNT,
    libc::IPV6_RECVORIGDSTADDR,
    libc::IPV6_UNICAST_IF,
    libc::IPV6_RECVFRAGSIZE,
];

/// For others these are the same bits as `IP_TRANSPARENT` and `IP_FREEBIND`.
const RAW_IPV6_OPTIONS: [i32; 2] = [libc::IPV6_TRANSPARENT, libc::IPV6_FREEBIND];

const TCP_OPTIONS: [i32; 25] = [
    libc::TCP_NODELAY,
    libc::TCP_MAXSEG,
    libc::TCP_CORK,
    libc::TCP_KEEPIDLE,
    libc::TCP_KEEPINTVL,
    libc::TCP_KEEPCNT,
    libc::TCP_SYNCNT,
    libc::TCP_LINGER2,
    libc::TCP_DEFER_ACCEPT,
    libc::TCP_WINDOW_CLAMP,
    libc::TCP_CONGESTION,
    libc::TCP_THIN_LINEAR_TIMEOUTS,
    libc::TCP_USER_TIMEOUT,
    libc::TCP_FASTOPEN,
    libc::TCP_NOTSENT_LOWAT,
    libc::TCP_SAVE_SYN,
    libc::TCP_FASTOPEN_CONNECT,
    libc::TCP_FASTOPEN_KEY,
    libc::TCP_FASTOPEN_NO_COOKIE,
    libc::TCP_INQ,
    TCP_TX_DELAY,
    TCP_RTO_MAX_MS,
    TCP_RTO_MIN_US,
    TCP_DELACK_MAX_US,
    libc::TCP_THIN_DUPACK,
];

const UDP_OPTIONS: [i32; 6] =
    [UDP_CORK, UDP_ENCAP, UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX, UDP_SEGMENT, UDP_GRO];

const UDPLITE_OPTIONS: [i32; 2] = [UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV];

/// Those of any socket that are no switches, or of use to these families only.
const SOCKET_OPTIONS: [i32; 6] = [
    libc::SO_PEEK_OFF,
    libc::SO_MAX_PACING_RATE,
    libc::SO_INCOMING_CPU,
    libc::SO_TXTIME,
    libc::SO_RESERVE_MEM,
    libc::SO_TXREHASH,
];

/// What the kernel answers for an option that the socket does not have, or not
/// in this state.
fn absent(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOPROTOOPT | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOTCONN | Errno::AFNOSUPPORT
    )
}

/// What kind of socket it is: what decides which options it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// `AF_INET` or `AF_INET6`.
    pub(super) family: i32,
    /// `SOCK_*`.
    pub(super) kind: i32,
    /// `IPPROTO_*`.
    pub(super) protocol: i32,
}

impl Kind {
    pub(super) fn is_v6(self) -> bool {
        self.family == libc::AF_INET6
    }

    pub(super) fn is_stream(self) -> bool {
        self.kind == libc::SOCK_STREAM
    }

    pub(super) fn is_udp(self) -> bool {
        matches!(self.protocol, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE)
            && self.kind == libc::SOCK_DGRAM
    }

    pub(super) fn is_raw(self) -> bool {
        self.kind == libc::SOCK_RAW
    }

    fn options(self) -> impl Iterator<Item = SocketOption> {
        let of = |holds: bool, level: i32, names: &'static [i32]| {
            names.iter().filter(move |_| holds).map(move |&name| SocketOption::new(level, name))
        };
        let filters = match self.protocol {
            libc::IPPROTO_ICMP => of(self.is_raw(), RAW, &[FILTER]),
            _ => of(self.is_raw() && self.protocol == ICMPV6, ICMPV6, &[FILTER]),
        };
        of(self.is_v6(), IPV6, &IPV6_OPTIONS)
            .chain(of(self.is_v6() && self.is_raw(), IPV6, &RAW_IPV6_OPTIONS))
            .chain(of(!(self.is_v6() && self.is_raw()), IP, &IP_OPTIONS))
            .chain(of(self.is_stream(), TCP, &TCP_OPTIONS))
            .chain(of(self.is_udp(), UDP, &UDP_OPTIONS))
            .chain(of(self.protocol == UDPLITE, UDPLITE, &UDPLITE_OPTIONS))
            .chain(of(true, SOCKET, &SOCKET_OPTIONS))
            .chain(filters)
    }
}

/// Options of the protocols, each with its value as the kernel gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProtocolOptions(Vec<(SocketOption, Vec<u8>)>);

/// When an option can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before the socket has an address.
    Early,
    /// When everything is in its queues.
    Late,
    /// When what it has sent is in its queue, which it bounds, and nobody watches it yet: who does is told
    /// that there is room.
    Bound,
}

fn moment(option: SocketOption) -> Moment {
    match (option.level, option.name) {
        (TCP, libc::TCP_CORK)
        | (UDP, UDP_CORK | UDP_ENCAP | UDP_GRO)
        | (IP, libc::IP_MINTTL | libc::IP_HDRINCL)
        | (IPV6, libc::IPV6_MINHOPCOUNT | libc::IPV6_HDRINCL)
        | (SOCKET, libc::SO_PEEK_OFF | libc::SO_TXTIME)
        | (RAW | ICMPV6, _) => Moment::Late,
        (TCP, libc::TCP_NOTSENT_LOWAT) => Moment::Bound,
        _ => Moment::Early,
    }
}

/// What changes on its own while a connection lasts, or cannot be set then.
fn of_connection(option: SocketOption) -> bool {
    option.level == TCP
        && matches!(option.name, libc::TCP_MAXSEG | libc::TCP_WINDOW_CLAMP | libc::TCP_FASTOPEN)
}

/// What belongs to multicast, and nobody can set on a stream; a connection may
/// have brought it with it.
fn of_multicast(option: SocketOption) -> bool {
    match option.level {
        IP => [libc::IP_MULTICAST_IF, libc::IP_MULTICAST_TTL].contains(&option.name),
        IPV6 => [libc::IPV6_MULTICAST_IF, libc::IPV6_MULTICAST_HOPS].contains(&option.name),
        _ => false,
    }
}

/// Segments that are longer than anybody may ask for, and have come of
/// themselves.
fn has_come(option: SocketOption, value: &[u8]) -> bool {
    const MAX_TCP_WINDOW: u32 = 32_767;
    (option.level, option.name) == (TCP, libc::TCP_MAXSEG)
        && number(value).is_some_and(|bytes| bytes > MAX_TCP_WINDOW)
}

fn read(socket: &impl Options, option: SocketOption) -> Result<Option<Vec<u8>>> {
    let mut value = [0; LONGEST];
    match socket.get_into(option, &mut value) {
        Ok(len) => Ok(Some(value[..len.min(LONGEST)].to_vec())),
        Err(error) if absent(error) => Ok(None),
        Err(source) => Err(Error::kernel("getsockopt", "a socket")(source)),
    }
}

impl ProtocolOptions {
    /// Reads what differs from a new socket's, and what CRIU knows.
    pub(super) fn read(
        socket: impl Options,
        fresh: impl Options,
        (kind, connected): (Kind, bool),
    ) -> Result<Self> {
        let mut options = Vec::new();
        for option in kind.options() {
            if connected && of_connection(option) || kind.is_stream() && of_multicast(option) {
                continue;
            }
            let Some(value) = read(&socket, option)? else { continue };
            if has_come(option, &value) {
                continue;
            }
            if Field::of(option, kind).is_some() || read(&fresh, option)?.as_ref() != Some(&value) {
                options.push((option, value));
            }
        }
        Ok(Self(options))
    }

    /// Has nothing of these bound the queue of a socket, until they are set again.
    pub(super) fn unbind(&self, socket: BorrowedFd<'_>) -> Result<()> {
        let bounds = self.0.iter().filter(|(option, _)| moment(*option) == Moment::Bound);
        for (option, _) in bounds {
            let failed = Error::kernel("setsockopt", format!("{}:{}", option.level, option.name));
            // The most there is, in bytes.
            option.set_bytes(socket, &u32::MAX.to_ne_bytes()).map_err(failed)?;
        }
        Ok(())
    }

    /// Sets what can be set at this moment.
    pub(super) fn apply(&self, socket: BorrowedFd<'_>, moment: Moment) -> Result<()> {
        for (option, value) in self.0.iter().filter(|(option, _)| self::moment(*option) == moment) {
            if read(&socket, *option)?.as_ref() != Some(value) {
                let failed =
                    Error::kernel("setsockopt", format!("{}:{}", option.level, option.name));
                option.set_bytes(socket, value).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Numbers are four bytes, or one.
fn number(value: &[u8]) -> Option<u32> {
    match *value {
        [a] => Some(a.into()),
        [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d])),
        _ => None,
    }
}

/// A field of CRIU's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    V6Only,
    FreeBind,
    PktInfo,
    Tos,
    Ttl,
    HdrIncl,
    NoDefrag,
    Checksum,
    Filter,
    Cork,
    NoDelay,
    KeepCount,
    KeepIdle,
    KeepInterval,
}

impl Field {
    const ALL: [Self; 14] = [
        Self::V6Only,
        Self::FreeBind,
        Self::PktInfo,
        Self::Tos,
        Self::Ttl,
        Self::HdrIncl,
        Self::NoDefrag,
        Self::Checksum,
        Self::Filter,
        Self::Cork,
        Self::NoDelay,
        Self::KeepCount,
        Self::KeepIdle,
        Self::KeepInterval,
    ];

    /// The option it stands for, of a socket of the kind.
    fn option(self, kind: Kind) -> Option<SocketOption> {
        let v6 = kind.is_v6();
        let (level, name) = match self {
            Self::V6Only if v6 => (IPV6, libc::IPV6_V6ONLY),
            Self::FreeBind if v6 && kind.is_raw() => (IPV6, libc::IPV6_FREEBIND),
            Self::FreeBind => (IP, libc::IP_FREEBIND),
            Self::PktInfo if v6 => (IPV6, libc::IPV6_RECVPKTINFO),
            Self::PktInfo => (IP, libc::IP_PKTINFO),
            Self::Tos if !v6 => (IP, libc::IP_TOS),
            Self::Ttl if !v6 => (IP, libc::IP_TTL),
            Self::HdrIncl if v6 && kind.is_raw() => (IPV6, libc::IPV6_HDRINCL),
            Self::HdrIncl if kind.is_raw() => (IP, libc::IP_HDRINCL),
            Self::NoDefrag if kind.is_raw() && !v6 => (IP, libc::IP_NODEFRAG),
            Self::Checksum if kind.is_raw() && !v6 => (IP, libc::IP_CHECKSUM),
            Self::Filter if kind.is_raw() && v6 => (ICMPV6, FILTER),
            Self::Filter if kind.is_raw() => (RAW, FILTER),
            Self::Cork if kind.is_stream() => (TCP, libc::TCP_CORK),
            Self::NoDelay if kind.is_stream() => (TCP, libc::TCP_NODELAY),
            Self::KeepCount if kind.is_stream() => (TCP, libc::TCP_KEEPCNT),
            Self::KeepIdle if kind.is_stream() => (TCP, libc::TCP_KEEPIDLE),
            Self::KeepInterval if kind.is_stream() => (TCP, libc::TCP_KEEPINTVL),
            _ => return None,
        };
        Some(SocketOption::new(level, name))
    }

    fn of(option: SocketOption, kind: Kind) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.option(kind) == Some(option))
    }
}

/// The fields of an entry that hold options.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) v6only: Option<bool>,
    pub(super) ip: IpOptsEntry,
    pub(super) tcp: TcpOptsEntry,
    pub(super) more: Vec<InetMoreOptEntry>,
}

impl Fields {
    fn put(&mut self, field: Field, value: &[u8]) {
        let number = number(value).unwrap_or(0);
        let switch = Some(number != 0);
        let raw = || IpOptsRawEntry::default();
        let (ip, tcp) = (&mut self.ip, &mut self.tcp);
        // CRIU leaves out what is off.
        let on = switch.filter(|&on| on);
        match field {
            Field::V6Only => self.v6only = switch,
            Field::FreeBind => ip.freebind = on,
            Field::PktInfo => ip.pktinfo = on,
            Field::Tos => ip.tos = Some(number).filter(|&tos| tos != 0),
            Field::Ttl => ip.ttl = Some(number).filter(|&ttl| ttl != 0),
            Field::HdrIncl => ip.raw.get_or_insert_with(raw).hdrincl = on,
            Field::NoDefrag => ip.raw.get_or_insert_with(raw).nodefrag = on,
            Field::Checksum => ip.raw.get_or_insert_with(raw).checksum = on,
            Field::Filter => {
                let (words, _) = value.as_chunks::<4>();
                ip.raw.get_or_insert_with(raw).icmpv_filter =
                    words.iter().map(|&word| u32::from_ne_bytes(word)).collect();
            }
            Field::Cork => tcp.cork = switch,
            Field::NoDelay => tcp.nodelay = switch,
            Field::KeepCount => tcp.keepcnt = Some(number),
            Field::KeepIdle => tcp.keepidle = Some(number),
            Field::KeepInterval => tcp.keepintvl = Some(number),
        }
    }

    fn take(&self, field: Field) -> Option<Vec<u8>> {
        let (ip, tcp) = (&self.ip, &self.tcp);
        let raw = ip.raw.as_ref();
        let value = match field {
            Field::V6Only => self.v6only.map(u32::from),
            Field::FreeBind => ip.freebind.map(u32::from),
            Field::PktInfo => ip.pktinfo.map(u32::from),
            Field::Tos => ip.tos,
            Field::Ttl => ip.ttl,
            Field::HdrIncl => raw.and_then(|raw| raw.hdrincl).map(u32::from),
            Field::NoDefrag => raw.and_then(|raw| raw.nodefrag).map(u32::from),
            Field::Checksum => raw.and_then(|raw| raw.checksum).map(u32::from),
            Field::Filter => {
                let words = &raw.filter(|raw| !raw.icmpv_filter.is_empty())?.icmpv_filter;
                return Some(words.iter().flat_map(|word| word.to_ne_bytes()).collect());
            }
            Field::Cork => tcp.cork.map(u32::from),
            Field::NoDelay => tcp.nodelay.map(u32::from),
            Field::KeepCount => tcp.keepcnt,
            Field::KeepIdle => tcp.keepidle,
            Field::KeepInterval => tcp.keepintvl,
        };
        value.map(|value| value.to_ne_bytes().to_vec())
    }
}

impl ProtocolOptions {
    /// As images have them.
    pub(super) fn encode(&self, kind: Kind) -> Fields {
        let mut fields = Fields::default();
        for (option, value) in &self.0 {
            match Field::of(*option, kind) {
                Some(field) => fields.put(field, value),
                None => fields.more.push(InetMoreOptEntry {
                    level: option.level.cast_unsigned(),
                    name: option.name.cast_unsigned(),
                    value: value.clone(),
                }),
            }
        }
        fields
    }

    /// Judges what an image has.
    pub(super) fn decode(fields: &Fields, kind: Kind) -> Result<Self, &'static str> {
        let mut options = Vec::new();
        for InetMoreOptEntry { level, name, value } in &fields.more {
            let known = kind.options().find(|option| {
                (option.level.cast_unsigned(), option.name.cast_unsigned()) == (*level, *name)
            });
            let option = known.ok_or("it has an option that is unknown here")?;
            if value.len() > LONGEST {
                return Err("the value of an option is too long");
            }
            options.push((option, value.clone()));
        }
        for field in Field::ALL {
            if let (Some(option), Some(value)) = (field.option(kind), fields.take(field)) {
                options.push((option, value));
            }
        }
        Ok(Self(options))
    }
}
