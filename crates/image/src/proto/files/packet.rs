//! Packet sockets.

use crate::proto::files::FownEntry;
use crate::proto::files::socket::SkOptsEntry;

/// `packet_sock_entry`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PacketSockEntry {
    /// The file id, as in [`FileEntry::id`](super::FileEntry::id).
    #[prost(uint32, required, tag = "1")]
    pub id: u32,
    /// `SOCK_*` (CRIU: `type`).
    #[prost(uint32, required, tag = "2")]
    pub kind: u32,
    /// Network byte order.
    #[prost(uint32, required, tag = "3")]
    pub protocol: u32,
    #[prost(uint32, required, tag = "4")]
    pub flags: u32,
    #[prost(uint32, required, tag = "5")]
    pub ifindex: u32,
    /// Who gets the signal when I/O is possible.
    #[prost(message, required, tag = "6")]
    pub fown: FownEntry,
    #[prost(message, required, tag = "7")]
    pub opts: SkOptsEntry,
    /// `TPACKET_V*`.
    #[prost(uint32, required, tag = "8")]
    pub version: u32,
    #[prost(uint32, required, tag = "9")]
    pub reserve: u32,
    #[prost(bool, required, tag = "10")]
    pub aux_data: bool,
    #[prost(bool, required, tag = "11")]
    pub orig_dev: bool,
    #[prost(bool, required, tag = "12")]
    pub vnet_hdr: bool,
    #[prost(bool, required, tag = "13")]
    pub loss: bool,
    #[prost(uint32, required, tag = "14")]
    pub timestamp: u32,
    #[prost(uint32, required, tag = "15")]
    pub copy_thresh: u32,
    #[prost(message, repeated, tag = "16")]
    pub mclist: Vec<PacketMclist>,
    /// `PACKET_FANOUT`.
    #[prost(uint32, optional, tag = "17", default = "4294967295")]
    pub fanout: Option<u32>,
    #[prost(message, optional, tag = "18")]
    pub rx_ring: Option<PacketRing>,
    #[prost(message, optional, tag = "19")]
    pub tx_ring: Option<PacketRing>,
    #[prost(uint32, optional, tag = "20")]
    pub ns_id: Option<u32>,
    /// Dormouse: the name of the interface.
    #[prost(bytes = "vec", optional, tag = "20000")]
    pub ifname: Option<Vec<u8>>,
    /// Dormouse: options that CRIU has no field for.
    #[prost(message, repeated, tag = "20001")]
    pub more: Vec<PacketMoreOptEntry>,
}

/// Dormouse: an option of level `SOL_PACKET`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PacketMoreOptEntry {
    /// `PACKET_*`.
    #[prost(uint32, required, tag = "1")]
    pub name: u32,
    #[prost(int32, required, tag = "2")]
    pub value: i32,
}

/// `packet_mclist`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PacketMclist {
    #[prost(uint32, required, tag = "1")]
    pub index: u32,
    #[prost(uint32, required, tag = "2")]
    pub kind: u32,
    #[prost(bytes = "vec", required, tag = "3")]
    pub addr: Vec<u8>,
    /// Dormouse: the name of the interface.
    #[prost(bytes = "vec", optional, tag = "20000")]
    pub ifname: Option<Vec<u8>>,
}

/// `packet_ring`: `struct tpacket_req3`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PacketRing {
    #[prost(uint32, required, tag = "1")]
    pub block_size: u32,
    #[prost(uint32, required, tag = "2")]
    pub block_nr: u32,
    #[prost(uint32, required, tag = "3")]
    pub frame_size: u32,
    #[prost(uint32, required, tag = "4")]
    pub frame_nr: u32,
    /// Milliseconds.
    #[prost(uint32, required, tag = "5")]
    pub retire_tmo: u32,
    #[prost(uint32, required, tag = "6")]
    pub sizeof_priv: u32,
    #[prost(uint32, required, tag = "7")]
    pub features: u32,
    /// Dormouse: the place in which the kernel goes on.
    #[prost(uint32, optional, tag = "20000")]
    pub head: Option<u32>,
    /// Dormouse: what is in places that are the program's.
    #[prost(message, repeated, tag = "20001")]
    pub places: Vec<PacketPlaceEntry>,
}

/// Dormouse: a place of a ring: a frame, or a block (`TPACKET_V3`, receiving).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PacketPlaceEntry {
    /// Which.
    #[prost(uint32, required, tag = "1")]
    pub number: u32,
    /// Zeros at the end are left out.
    #[prost(bytes = "vec", required, tag = "2")]
    pub bytes: Vec<u8>,
}
