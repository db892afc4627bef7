//! What all sockets have, and datagrams in flight: `sk-queues.img`.

/// Directions that are shut down (`sk_shutdown`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SkShutdown {
    None = 0,
    Read = 1,
    Write = 2,
    Both = 3,
}

/// `sk_opts_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SkOptsEntry {
    /// Bytes as the kernel reports them, double what was asked for.
    #[prost(uint32, required, tag = "1")]
    pub so_sndbuf: u32,
    /// The same.
    #[prost(uint32, required, tag = "2")]
    pub so_rcvbuf: u32,
    #[prost(uint64, required, tag = "3")]
    pub so_snd_tmo_sec: u64,
    #[prost(uint64, required, tag = "4")]
    pub so_snd_tmo_usec: u64,
    #[prost(uint64, required, tag = "5")]
    pub so_rcv_tmo_sec: u64,
    #[prost(uint64, required, tag = "6")]
    pub so_rcv_tmo_usec: u64,
    #[prost(bool, optional, tag = "7")]
    pub reuseaddr: Option<bool>,
    #[prost(uint32, optional, tag = "8")]
    pub so_priority: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub so_rcvlowat: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    pub so_mark: Option<u32>,
    #[prost(bool, optional, tag = "11")]
    pub so_passcred: Option<bool>,
    #[prost(bool, optional, tag = "12")]
    pub so_passsec: Option<bool>,
    #[prost(bool, optional, tag = "13")]
    pub so_dontroute: Option<bool>,
    #[prost(bool, optional, tag = "14")]
    pub so_no_check: Option<bool>,
    #[prost(bytes = "vec", optional, tag = "15")]
    pub so_bound_dev: Option<Vec<u8>>,
    /// `struct sock_filter`s: code, jt, jf, k from the highest bits to the lowest.
    #[prost(fixed64, repeated, packed = "false", tag = "16")]
    pub so_filter: Vec<u64>,
    #[prost(bool, optional, tag = "17")]
    pub so_reuseport: Option<bool>,
    #[prost(bool, optional, tag = "18")]
    pub so_broadcast: Option<bool>,
    #[prost(bool, optional, tag = "19")]
    pub so_keepalive: Option<bool>,
    /// Deprecated as the next two, see [`TcpOptsEntry`](super::inet::TcpOptsEntry).
    #[prost(uint32, optional, tag = "20")]
    pub tcp_keepcnt: Option<u32>,
    #[prost(uint32, optional, tag = "21")]
    pub tcp_keepidle: Option<u32>,
    #[prost(uint32, optional, tag = "22")]
    pub tcp_keepintvl: Option<u32>,
    #[prost(uint32, optional, tag = "23")]
    pub so_oobinline: Option<u32>,
    /// Seconds; present when lingering is on.
    #[prost(uint32, optional, tag = "24")]
    pub so_linger: Option<u32>,
    /// `SOCK_SNDBUF_LOCK` 1, `SOCK_RCVBUF_LOCK` 2.
    #[prost(uint32, optional, tag = "25")]
    pub so_buf_lock: Option<u32>,
    /// Dormouse: options that CRIU has no field for.
    #[prost(message, repeated, tag = "20000")]
    pub more: Vec<SkMoreOptEntry>,
}

/// Dormouse: an option of level `SOL_SOCKET`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SkMoreOptEntry {
    /// `SO_*`, generic numbering.
    #[prost(uint32, required, tag = "1")]
    pub name: u32,
    #[prost(int32, required, tag = "2")]
    pub value: i32,
}

/// `sk_packet_entry`, in `sk-queues.img`; `length` raw bytes follow it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SkPacketEntry {
    /// Socket in whose receive queue it is: [`UnixSkEntry::id`](super::unix::UnixSkEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id_for: u32,
    #[prost(uint32, required, tag = "2")]
    pub length: u32,
    /// Ancillary data.
    #[prost(message, repeated, tag = "4")]
    pub scm: Vec<ScmEntry>,
    /// Dormouse: the sender's address.
    #[prost(bytes = "vec", optional, tag = "20000")]
    pub from: Option<Vec<u8>>,
    /// Dormouse: `SCM_CREDENTIALS`.
    #[prost(message, optional, tag = "20001")]
    pub cred: Option<SkCredEntry>,
    /// Dormouse: its last byte was sent out of band.
    #[prost(bool, optional, tag = "20002")]
    pub urgent: Option<bool>,
    /// Dormouse: it is a datagram of the internet.
    #[prost(message, optional, tag = "20003")]
    pub datagram: Option<SkDatagramEntry>,
    /// Dormouse: so many bytes came before it in its buffer, and were read already.
    #[prost(uint32, optional, tag = "20004")]
    pub read: Option<u32>,
    /// Dormouse: the file id of the socket that sent it; zero if that is none of the checkpoint.
    #[prost(uint32, optional, tag = "20005")]
    pub sender: Option<u32>,
}

/// Dormouse: what is known of a datagram that waits in an internet socket.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SkDatagramEntry {
    /// Who sent it: 4 bytes (IPv4) or 16.
    #[prost(bytes = "vec", required, tag = "1")]
    pub from: Vec<u8>,
    #[prost(uint32, required, tag = "2")]
    pub port: u32,
    /// The address it was sent to, and the name of the interface it came in by, if the socket
    /// asks for them.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub to: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub ifname: Option<Vec<u8>>,
    /// How far it could still have gone, if the socket asks.
    #[prost(uint32, optional, tag = "5")]
    pub ttl: Option<u32>,
    /// Its traffic class, if the socket asks.
    #[prost(uint32, optional, tag = "6")]
    pub tos: Option<u32>,
    /// It came in pieces of so many bytes, which the kernel put together.
    #[prost(uint32, optional, tag = "7")]
    pub segment: Option<u32>,
}

/// Dormouse: who sent a packet.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SkCredEntry {
    /// Zero if the process has ended.
    #[prost(int32, required, tag = "1")]
    pub pid: i32,
    #[prost(uint32, required, tag = "2")]
    pub uid: u32,
    #[prost(uint32, required, tag = "3")]
    pub gid: u32,
}

/// `scm_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ScmEntry {
    /// `SCM_RIGHTS` (CRIU: `type`).
    #[prost(uint32, required, tag = "1")]
    pub kind: u32,
    /// File ids of the descriptors in flight.
    #[prost(uint32, repeated, packed = "false", tag = "2")]
    pub rights: Vec<u32>,
}
