//! Names of socket options that libc does not have yet.
//!
//! Truth from: `include/uapi/asm-generic/socket.h`, and `in.h`, `in6.h`, `tcp.h`,
//! `udp.h` in `include/uapi/linux`; those of UDP-Lite in `net/udplite.h`.

pub(crate) const SO_RCVPRIORITY: i32 = 82;
pub(crate) const SO_PASSRIGHTS: i32 = 83;
pub(crate) const IP_RECVERR_RFC4884: i32 = 26;
pub(crate) const IP_LOCAL_PORT_RANGE: i32 = 51;
pub(crate) const IPV6_MULTICAST_ALL: i32 = 29;
pub(crate) const IPV6_ROUTER_ALERT_ISOLATE: i32 = 30;
pub(crate) const IPV6_RECVERR_RFC4884: i32 = 31;
pub(crate) const TCP_TX_DELAY: i32 = 37;
pub(crate) const TCP_RTO_MAX_MS: i32 = 44;
pub(crate) const TCP_RTO_MIN_US: i32 = 45;
pub(crate) const TCP_DELACK_MAX_US: i32 = 46;
pub(crate) const UDP_CORK: i32 = 1;
pub(crate) const UDP_ENCAP: i32 = 100;
pub(crate) const UDP_NO_CHECK6_TX: i32 = 101;
pub(crate) const UDP_NO_CHECK6_RX: i32 = 102;
pub(crate) const UDP_SEGMENT: i32 = 103;
pub(crate) const UDP_GRO: i32 = 104;
pub(crate) const UDPLITE_SEND_CSCOV: i32 = 10;
pub(crate) const UDPLITE_RECV_CSCOV: i32 = 11;
