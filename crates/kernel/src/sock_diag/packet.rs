//! Packet sockets: `include/uapi/linux/packet_diag.h`.

use super::message::{half, number};
use super::{Attributes, Error, Malformed, SockDiag};

/// A packet socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketDiag {
    /// Its inode number.
    pub inode: u32,
    /// `SOCK_*`.
    pub kind: u8,
    /// `ETH_P_*` of what it receives; zero: nothing.
    pub protocol: u16,
    /// The interface it is bound to; zero: all; negative: one that is gone.
    pub interface: i32,
    /// `PACKET_COPY_THRESH`.
    pub copy_threshold: u32,
    /// What it has its interfaces receive besides.
    pub memberships: Vec<PacketMembership>,
    /// Its ring to receive by.
    pub receive_ring: Option<PacketRing>,
    /// Its ring to send by.
    pub send_ring: Option<PacketRing>,
    /// Whether it shares what comes in with others.
    pub fanout: bool,
}

/// `PACKET_ADD_MEMBERSHIP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketMembership {
    /// The interface.
    pub interface: u32,
    /// How often it was asked for.
    pub count: u32,
    /// `PACKET_MR_*`.
    pub kind: u16,
    /// The address, of the interface's kind.
    pub address: Vec<u8>,
}

/// `struct tpacket_req3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketRing {
    /// Bytes.
    pub block_size: u32,
    /// How many.
    pub blocks: u32,
    /// Bytes.
    pub frame_size: u32,
    /// How many.
    pub frames: u32,
    /// Milliseconds.
    pub retire_timeout: u32,
    /// Bytes.
    pub private: u32,
    /// `TP_FT_REQ_*`.
    pub features: u32,
}

/// `PACKET_SHOW_*`: information, memberships, rings, fanout.
const SHOW: u32 = 1 | 2 | 4 | 8;

impl SockDiag {
    /// Lists the packet sockets of the network namespace, in no order.
    ///
    /// # Errors
    /// The kernel does not list them (`CONFIG_PACKET_DIAG`).
    pub fn packet(&self) -> Result<Vec<PacketDiag>, Error> {
        // struct packet_diag_req: family, protocol, padding, inode, show,
        // cookie.
        let mut request = [0; 20];
        request[0] = libc::AF_PACKET as u8;
        request[8..12].copy_from_slice(&SHOW.to_ne_bytes());
        self.list(&request, parse)
    }
}

/// `struct packet_diag_msg` (family, type, protocol, inode, cookie) and its
/// attributes.
fn parse(answer: &[u8]) -> Result<PacketDiag, Malformed> {
    const FIXED: usize = 16;
    let (fixed, attributes) = answer.split_at_checked(FIXED).ok_or(Malformed)?;
    let mut socket = PacketDiag {
        inode: number(fixed, 4)?,
        kind: fixed[1],
        protocol: half(fixed, 2)?,
        interface: 0,
        copy_threshold: 0,
        memberships: Vec::new(),
        receive_ring: None,
        send_ring: None,
        fanout: false,
    };
    for attribute in Attributes::new(attributes) {
        let (kind, value) = attribute?;
        match kind {
            // struct packet_diag_info; what else it says, options say as well.
            0 => {
                socket.interface = number(value, 0)?.cast_signed();
                socket.copy_threshold = number(value, 12)?;
            }
            1 => socket.memberships = value.chunks(44).map(membership).collect::<Result<_, _>>()?,
            2 => socket.receive_ring = Some(ring(value)?),
            3 => socket.send_ring = Some(ring(value)?),
            4 => socket.fanout = true,
            _ => {}
        }
    }
    Ok(socket)
}

/// `struct packet_diag_mclist`.
fn membership(value: &[u8]) -> Result<PacketMembership, Malformed> {
    let len = usize::from(half(value, 10)?);
    Ok(PacketMembership {
        interface: number(value, 0)?,
        count: number(value, 4)?,
        kind: half(value, 8)?,
        address: value.get(12..12 + len).ok_or(Malformed)?.to_vec(),
    })
}

/// `struct packet_diag_ring`.
fn ring(value: &[u8]) -> Result<PacketRing, Malformed> {
    Ok(PacketRing {
        block_size: number(value, 0)?,
        blocks: number(value, 4)?,
        frame_size: number(value, 8)?,
        frames: number(value, 12)?,
        retire_timeout: number(value, 16)?,
        private: number(value, 20)?,
        features: number(value, 24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::SockDiag;
    use rustix::fs::fstat;
    use rustix::net::{AddressFamily, SocketType, socket};

    #[test]
    fn a_socket_is_listed() {
        let Ok(socket) = socket(AddressFamily::PACKET, SocketType::DGRAM, None) else {
            eprintln!("skipped: packet sockets take CAP_NET_RAW");
            return;
        };
        let inode = u32::try_from(fstat(&socket).unwrap().st_ino).unwrap();
        let listed = SockDiag::open().unwrap().packet().unwrap();
        let own = listed.iter().find(|socket| socket.inode == inode).unwrap();
        let kind = i32::from(own.kind);
        assert_eq!((kind, own.protocol, own.interface), (libc::SOCK_DGRAM, 0, 0));
        assert_eq!((&own.memberships[..], own.receive_ring, own.fanout), (&[][..], None, false));
    }
}
