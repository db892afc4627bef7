//! Network namespaces: `netns-ID.img`, `netdev-ID.img`.

use crate::proto::files::tun::TunLinkEntry;

/// The one message of `netns-ID.img` (`netns_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NetnsEntry {
    /// Old form of `def_conf4`, as `all_conf` of `all_conf4`.
    #[prost(int32, repeated, packed = "false", tag = "1")]
    pub def_conf: Vec<i32>,
    #[prost(int32, repeated, packed = "false", tag = "2")]
    pub all_conf: Vec<i32>,
    #[prost(message, repeated, tag = "3")]
    pub def_conf4: Vec<SysctlEntry>,
    #[prost(message, repeated, tag = "4")]
    pub all_conf4: Vec<SysctlEntry>,
    #[prost(message, repeated, tag = "5")]
    pub def_conf6: Vec<SysctlEntry>,
    #[prost(message, repeated, tag = "6")]
    pub all_conf6: Vec<SysctlEntry>,
    #[prost(message, repeated, tag = "7")]
    pub nsids: Vec<NetnsId>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub ext_key: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "9")]
    pub unix_conf: Vec<SysctlEntry>,
    #[prost(message, repeated, tag = "10")]
    pub ipv4_sysctl: Vec<SysctlEntry>,
}

/// `netns_id`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NetnsId {
    /// Id of the other namespace.
    #[prost(uint32, required, tag = "1")]
    pub target_ns_id: u32,
    /// Its nsid in this one.
    #[prost(int32, required, tag = "2")]
    pub netnsid_value: i32,
}

/// Kind of a network device (`nd_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum NetDeviceType {
    Loopback = 1,
    Veth = 2,
    Tun = 3,
    Extlink = 4,
    Venet = 5,
    Bridge = 6,
    Macvlan = 7,
    Sit = 8,
}

/// A device of `netdev-ID.img` (`net_device_entry`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NetDeviceEntry {
    /// A [`NetDeviceType`] (CRIU: `type`).
    #[prost(enumeration = "NetDeviceType", required, tag = "1")]
    pub kind: i32,
    #[prost(uint32, required, tag = "2")]
    pub ifindex: u32,
    #[prost(uint32, required, tag = "3")]
    pub mtu: u32,
    /// `IFF_*`.
    #[prost(uint32, required, tag = "4")]
    pub flags: u32,
    #[prost(bytes = "vec", required, tag = "5")]
    pub name: Vec<u8>,
    #[prost(message, optional, tag = "6")]
    pub tun: Option<TunLinkEntry>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub address: Option<Vec<u8>>,
    /// Old form of `conf4`.
    #[prost(int32, repeated, packed = "false", tag = "8")]
    pub conf: Vec<i32>,
    #[prost(message, repeated, tag = "9")]
    pub conf4: Vec<SysctlEntry>,
    #[prost(message, repeated, tag = "10")]
    pub conf6: Vec<SysctlEntry>,
    #[prost(message, optional, tag = "11")]
    pub macvlan: Option<MacvlanLinkEntry>,
    #[prost(uint32, optional, tag = "12")]
    pub peer_ifindex: Option<u32>,
    /// Id of the namespace a veth's peer is in.
    #[prost(uint32, optional, tag = "13")]
    pub peer_nsid: Option<u32>,
    /// Index of the bridge it belongs to.
    #[prost(uint32, optional, tag = "14")]
    pub master: Option<u32>,
    #[prost(message, optional, tag = "15")]
    pub sit: Option<SitEntry>,
}

/// `macvlan_link_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MacvlanLinkEntry {
    #[prost(uint32, required, tag = "1")]
    pub mode: u32,
    #[prost(uint32, optional, tag = "2")]
    pub flags: Option<u32>,
}

/// `sit_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SitEntry {
    #[prost(uint32, optional, tag = "1")]
    pub link: Option<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "2")]
    pub local: Vec<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "3")]
    pub remote: Vec<u32>,
    #[prost(uint32, optional, tag = "4")]
    pub ttl: Option<u32>,
    #[prost(uint32, optional, tag = "5")]
    pub tos: Option<u32>,
    #[prost(bool, optional, tag = "6")]
    pub pmtudisc: Option<bool>,
    #[prost(uint32, optional, tag = "7")]
    pub proto: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    pub flags: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub encap_type: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    pub encap_flags: Option<u32>,
    #[prost(uint32, optional, tag = "11")]
    pub encap_sport: Option<u32>,
    #[prost(uint32, optional, tag = "12")]
    pub encap_dport: Option<u32>,
    #[prost(uint32, optional, tag = "13")]
    pub rd_prefixlen: Option<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "14")]
    pub rd_prefix: Vec<u32>,
    #[prost(uint32, optional, tag = "15")]
    pub relay_prefixlen: Option<u32>,
    #[prost(uint32, repeated, packed = "false", tag = "16")]
    pub relay_prefix: Vec<u32>,
}

/// Which field of a [`SysctlEntry`] holds the value (`SysctlType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SysctlType {
    Str = 5,
    Int = 6,
}

/// `sysctl_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SysctlEntry {
    /// A [`SysctlType`] (CRIU: `type`).
    #[prost(enumeration = "SysctlType", required, tag = "1")]
    pub kind: i32,
    #[prost(int32, optional, tag = "2")]
    pub iarg: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub sarg: Option<Vec<u8>>,
}
