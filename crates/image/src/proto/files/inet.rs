//! Internet sockets; an open TCP connection's state is in `tcp-stream-INO.img`.

use crate::proto::files::FownEntry;
use crate::proto::files::socket::{SkOptsEntry, SkShutdown};

/// `inet_sk_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InetSkEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// Inode, which names `tcp-stream-INO.img` (in hexadecimal).
    #[prost(uint32, required, tag = "2")]
    pub ino: u32,
    #[prost(uint32, required, tag = "3")]
    pub family: u32,
    /// `SOCK_*` (CRIU: `type`).
    #[prost(uint32, required, tag = "4")]
    pub kind: u32,
    #[prost(uint32, required, tag = "5")]
    pub proto: u32,
    /// `TCP_*` state.
    #[prost(uint32, required, tag = "6")]
    pub state: u32,
    /// Host byte order.
    #[prost(uint32, required, tag = "7")]
    pub src_port: u32,
    #[prost(uint32, required, tag = "8")]
    pub dst_port: u32,
    /// `O_*`.
    #[prost(uint32, required, tag = "9")]
    pub flags: u32,
    #[prost(uint32, required, tag = "10")]
    pub backlog: u32,
    /// Words of the address, each in network byte order: 1 (IPv4) or 4 (IPv6).
    #[prost(uint32, repeated, packed = "false", tag = "11")]
    pub src_addr: Vec<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "12")]
    pub dst_addr: Vec<u32>,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "13")]
    pub fown: FownEntry,
    #[prost(message, required, tag = "14")]
    pub opts: SkOptsEntry,
    #[prost(bool, optional, tag = "15")]
    pub v6only: Option<bool>,
    #[prost(message, optional, tag = "16")]
    pub ip_opts: Option<IpOptsEntry>,
    /// Interface of a link-local address.
    #[prost(bytes = "vec", optional, tag = "17")]
    pub ifname: Option<Vec<u8>>,
    /// Network namespace.
    #[prost(uint32, optional, tag = "18")]
    pub ns_id: Option<u32>,
    /// A [`SkShutdown`].
    #[prost(enumeration = "SkShutdown", optional, tag = "19")]
    pub shutdown: Option<i32>,
    #[prost(message, optional, tag = "20")]
    pub tcp_opts: Option<TcpOptsEntry>,
    /// Dormouse: options that CRIU has no field for.
    #[prost(message, repeated, tag = "20000")]
    pub more: Vec<InetMoreOptEntry>,
    /// Dormouse: user and group that own the socket.
    #[prost(uint32, optional, tag = "20001")]
    pub uid: Option<u32>,
    #[prost(uint32, optional, tag = "20002")]
    pub gid: Option<u32>,
    /// Dormouse: multicast groups it is a member of.
    #[prost(message, repeated, tag = "20010")]
    pub memberships: Vec<InetMembershipEntry>,
    /// Dormouse: the name of the interface that it sends to groups of IPv4 by.
    #[prost(bytes = "vec", optional, tag = "20011")]
    pub multicast_if: Option<Vec<u8>>,
    /// Dormouse: which it is of those that share its port, if the next chooses among them.
    #[prost(uint32, optional, tag = "20012")]
    pub reuseport_place: Option<u32>,
    /// Dormouse: `SO_ATTACH_REUSEPORT_CBPF`; instructions as in `so_filter`.
    #[prost(fixed64, repeated, packed = "false", tag = "20013")]
    pub reuseport_filter: Vec<u64>,
    /// Dormouse: the error that its connection has ended with, or that it was sent of its
    /// datagrams, as long as nobody was told; zero if somebody was, or it has ended in good order.
    #[prost(uint32, optional, tag = "20014")]
    pub error: Option<u32>,
    /// Dormouse: whether `connect` has told no more of that connection than that it is being made.
    #[prost(bool, optional, tag = "20015")]
    pub connecting: Option<bool>,
    /// Dormouse: its connection waits to be accepted in the tree, as this one of those that do.
    #[prost(uint32, optional, tag = "20016")]
    pub unaccepted: Option<u32>,
    /// Dormouse: of one that listens, the connections that wait to be accepted and whose other ends
    /// stay where they are, the first to be accepted first.
    #[prost(message, repeated, tag = "20017")]
    pub waiting: Vec<InetUnacceptedEntry>,
    /// Dormouse: what is left to be read of a connection that has ended.
    #[prost(bytes = "vec", optional, tag = "20018")]
    pub unread: Option<Vec<u8>>,
    /// Dormouse: what the network has said of datagrams that it has sent (`IP_RECVERR`), first to be
    /// read first.
    #[prost(message, repeated, tag = "20019")]
    pub reports: Vec<InetReportEntry>,
    /// Dormouse: whether its program was told that there is such a thing.
    #[prost(bool, optional, tag = "20020")]
    pub reports_told: Option<bool>,
}

/// Dormouse: a message of ICMP about a datagram. Addresses of IPv4 are numbers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InetReportEntry {
    /// Who has sent it.
    #[prost(fixed32, required, tag = "1")]
    pub from: u32,
    /// Its type and code.
    #[prost(uint32, required, tag = "2")]
    pub kind: u32,
    #[prost(uint32, required, tag = "3")]
    pub code: u32,
    /// `ee_info`.
    #[prost(uint32, required, tag = "4")]
    pub info: u32,
    /// From where the datagram was sent, and to where.
    #[prost(fixed32, required, tag = "5")]
    pub src_addr: u32,
    #[prost(fixed32, required, tag = "6")]
    pub dst_addr: u32,
    #[prost(uint32, required, tag = "7")]
    pub dst_port: u32,
    /// The beginning of what was in it.
    #[prost(bytes = "vec", required, tag = "8")]
    pub bytes: Vec<u8>,
}

/// Dormouse: a connection that waits to be accepted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InetUnacceptedEntry {
    /// Its own address: 4 bytes (IPv4) or 16. The port is that of the socket that listens.
    #[prost(bytes = "vec", required, tag = "1")]
    pub src_addr: Vec<u8>,
    /// The peer's.
    #[prost(bytes = "vec", required, tag = "2")]
    pub dst_addr: Vec<u8>,
    #[prost(uint32, required, tag = "3")]
    pub dst_port: u32,
    /// What the peer has said last: 1 that nothing more comes, 2 that there is no connection any
    /// more, 3 both.
    #[prost(uint32, required, tag = "4")]
    pub ending: u32,
    /// The next six as in [`TcpStreamEntry`]; `inq_seq` without an end.
    #[prost(uint32, required, tag = "5")]
    pub inq_seq: u32,
    #[prost(uint32, required, tag = "6")]
    pub outq_seq: u32,
    #[prost(uint32, required, tag = "7")]
    pub opt_mask: u32,
    #[prost(uint32, optional, tag = "8")]
    pub snd_wscale: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub rcv_wscale: Option<u32>,
    #[prost(uint32, required, tag = "10")]
    pub mss_clamp: u32,
    /// What its clock of time stamps shows.
    #[prost(uint32, optional, tag = "11")]
    pub timestamp: Option<u32>,
    /// What the peer's has shown last.
    #[prost(uint32, optional, tag = "12")]
    pub peer_timestamp: Option<u32>,
    #[prost(uint32, required, tag = "13")]
    pub snd_wnd: u32,
    /// What was received.
    #[prost(bytes = "vec", required, tag = "14")]
    pub inq: Vec<u8>,
    /// Whether it is kept back until something is sent on it (`TCP_DEFER_ACCEPT`).
    #[prost(bool, optional, tag = "15")]
    pub deferred: Option<bool>,
}

/// Dormouse: a socket is a member of a multicast group.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InetMembershipEntry {
    /// Where: the name of the interface.
    #[prost(bytes = "vec", required, tag = "1")]
    pub ifname: Vec<u8>,
    /// The address: 4 bytes (IPv4) or 16.
    #[prost(bytes = "vec", required, tag = "2")]
    pub group: Vec<u8>,
    /// Whether the sources are those it listens to, or those it does not.
    #[prost(bool, required, tag = "3")]
    pub include: bool,
    /// Addresses.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub sources: Vec<Vec<u8>>,
}

/// Dormouse: an option of a protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InetMoreOptEntry {
    /// `IPPROTO_*`.
    #[prost(uint32, required, tag = "1")]
    pub level: u32,
    #[prost(uint32, required, tag = "2")]
    pub name: u32,
    /// As the kernel gives it.
    #[prost(bytes = "vec", required, tag = "3")]
    pub value: Vec<u8>,
}

/// `ip_opts_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IpOptsEntry {
    #[prost(bool, optional, tag = "1")]
    pub freebind: Option<bool>,
    #[prost(message, optional, tag = "4")]
    pub raw: Option<IpOptsRawEntry>,
    #[prost(bool, optional, tag = "5")]
    pub pktinfo: Option<bool>,
    #[prost(uint32, optional, tag = "6")]
    pub tos: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    pub ttl: Option<u32>,
}

/// `ip_opts_raw_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IpOptsRawEntry {
    #[prost(bool, optional, tag = "1")]
    pub hdrincl: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub nodefrag: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    pub checksum: Option<bool>,
    /// `ICMP_FILTER` (1 word) or `ICMPV6_FILTER` (8).
    #[prost(uint32, repeated, packed = "false", tag = "4")]
    pub icmpv_filter: Vec<u32>,
}

/// `tcp_opts_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TcpOptsEntry {
    #[prost(bool, optional, tag = "1")]
    pub cork: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub nodelay: Option<bool>,
    #[prost(uint32, optional, tag = "3")]
    pub keepcnt: Option<u32>,
    /// Seconds.
    #[prost(uint32, optional, tag = "4")]
    pub keepidle: Option<u32>,
    /// Seconds.
    #[prost(uint32, optional, tag = "5")]
    pub keepintvl: Option<u32>,
}

/// `tcp_stream_entry`; `inq_len` bytes of the receive queue, then `outq_len` of the send queue
/// follow it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TcpStreamEntry {
    #[prost(uint32, required, tag = "1")]
    pub inq_len: u32,
    /// Sequence number behind the receive queue.
    #[prost(uint32, required, tag = "2")]
    pub inq_seq: u32,
    /// Sent and unsent.
    #[prost(uint32, required, tag = "3")]
    pub outq_len: u32,
    /// Sequence number behind the send queue.
    #[prost(uint32, required, tag = "4")]
    pub outq_seq: u32,
    /// `TCPI_OPT_*`.
    #[prost(uint32, required, tag = "5")]
    pub opt_mask: u32,
    #[prost(uint32, required, tag = "6")]
    pub snd_wscale: u32,
    #[prost(uint32, required, tag = "7")]
    pub mss_clamp: u32,
    #[prost(uint32, optional, tag = "8")]
    pub rcv_wscale: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub timestamp: Option<u32>,
    /// Deprecated as the next, see [`TcpOptsEntry`].
    #[prost(bool, optional, tag = "10")]
    pub cork: Option<bool>,
    #[prost(bool, optional, tag = "11")]
    pub nodelay: Option<bool>,
    /// Bytes of the send queue not sent yet.
    #[prost(uint32, optional, tag = "12")]
    pub unsq_len: Option<u32>,
    /// This and the next four: `TCP_REPAIR_WINDOW`.
    #[prost(uint32, optional, tag = "13")]
    pub snd_wl1: Option<u32>,
    #[prost(uint32, optional, tag = "14")]
    pub snd_wnd: Option<u32>,
    #[prost(uint32, optional, tag = "15")]
    pub max_window: Option<u32>,
    #[prost(uint32, optional, tag = "16")]
    pub rcv_wnd: Option<u32>,
    #[prost(uint32, optional, tag = "17")]
    pub rcv_wup: Option<u32>,
    /// Dormouse: which byte of the receive queue came out of band.
    #[prost(uint32, optional, tag = "20000")]
    pub urgent: Option<u32>,
    /// Dormouse: whether that was read.
    #[prost(bool, optional, tag = "20001")]
    pub urgent_read: Option<bool>,
    /// Dormouse: how many bytes of the send queue there are up to the one that is sent out of band,
    /// which is the last of them.
    #[prost(uint32, optional, tag = "20002")]
    pub urgent_sent: Option<u32>,
}
