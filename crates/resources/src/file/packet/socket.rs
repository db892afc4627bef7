//! A socket, from probe to probe.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::packet::{
    PacketMclist, PacketMoreOptEntry, PacketRing, PacketSockEntry,
};
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::Errno;
use dormouse_kernel::sock_diag::{self, PacketDiag, SockDiag};
use dormouse_kernel::socket::{SocketOption, bind_packet, bind_packet_by_name};
use dormouse_kernel::tcp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use super::progress::Progress;
use super::rings::{self, Direction, Heads, Unsaved, Unseen};
use crate::corrupt::corrupt;
use crate::file::create::{Milestone, Stash};
use crate::file::home_network::HomeNetwork;
use crate::file::interfaces;
use crate::file::listed::Listed;
use crate::file::socket_options::SocketOptions;
use crate::file::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, SocketFamily, Stage, Status,
};
use crate::{Error, Result};

/// A packet socket.
#[derive(Debug)]
pub struct Packet {
    status: Status,
    /// `SOCK_*`.
    kind: i32,
    /// `ETH_P_*`.
    protocol: u16,
    /// The index of the interface it is bound to; zero: all.
    interface: u32,
    /// By their place in [`OPTIONS`]: what is not as in a new socket.
    options: Vec<(usize, i32)>,
    memberships: Vec<Membership>,
    /// `PACKET_FANOUT`.
    fanout: Option<u32>,
    receive_ring: Option<PacketRing>,
    send_ring: Option<PacketRing>,
    socket_options: SocketOptions,
}

/// `PACKET_ADD_MEMBERSHIP`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Membership {
    interface: u32,
    /// `PACKET_MR_*`.
    kind: u16,
    address: Vec<u8>,
}

const SOL_PACKET: i32 = 263;

const fn option(name: i32) -> SocketOption {
    SocketOption::new(SOL_PACKET, name)
}

// include/uapi/linux/if_packet.h.
const ADD_MEMBERSHIP: i32 = 1;
const RX_RING: i32 = 5;
const STATISTICS: i32 = 6;
const COPY_THRESH: i32 = 7;
const AUXDATA: i32 = 8;
const ORIGDEV: i32 = 9;
const VERSION: i32 = 10;
const RESERVE: i32 = 12;
const TX_RING: i32 = 13;
const LOSS: i32 = 14;
const VNET_HDR: i32 = 15;
const TIMESTAMP: i32 = 17;
const FANOUT: i32 = 18;
const TX_HAS_OFF: i32 = 19;
const QDISC_BYPASS: i32 = 20;
const IGNORE_OUTGOING: i32 = 23;
const VNET_HDR_SZ: i32 = 24;
const FANOUT_CBPF: u32 = 6;
const FANOUT_EBPF: u32 = 7;
/// `PACKET_FANOUT_FLAG_UNIQUEID`, as it stands beside number and type.
const FANOUT_UNIQUE: u32 = 0x2000 << 16;
const SOCK_PACKET: i32 = 10;

/// Options that are numbers, in the order in which they are set.
const OPTIONS: [i32; 12] = [
    VERSION,
    RESERVE,
    AUXDATA,
    ORIGDEV,
    VNET_HDR,
    VNET_HDR_SZ,
    LOSS,
    TIMESTAMP,
    COPY_THRESH,
    TX_HAS_OFF,
    QDISC_BYPASS,
    IGNORE_OUTGOING,
];

/// Those of them that are set before there are rings: some cannot be set later, and the rings
/// take others into account.
const BEFORE_RINGS: [i32; 6] = [VERSION, RESERVE, VNET_HDR, VNET_HDR_SZ, LOSS, TX_HAS_OFF];

/// `MAX_ADDR_LEN`.
const MAX_ADDRESS: usize = 32;

fn kernel(call: &'static str) -> impl FnOnce(Errno) -> Error {
    Error::kernel(call, Packet::NAME)
}

fn refuse(probe: &Probe, reason: &'static str, hint: &'static str) -> Error {
    Error::Unsupported {
        object: "a packet socket",
        detail: probe.link.clone().into(),
        reason,
        hint,
    }
}

/// An option among those that are not as in a new socket.
fn number(options: &[(usize, i32)], name: i32) -> i32 {
    options.iter().find(|(place, _)| OPTIONS[*place] == name).map_or(0, |&(_, value)| value)
}

/// Options that are not as in a new socket.
fn numbers(socket: BorrowedFd<'_>, listed: &PacketDiag) -> Result<Vec<(usize, i32)>> {
    let mut options = Vec::new();
    for (place, name) in OPTIONS.into_iter().enumerate() {
        let value = match name {
            // The kernel tells it to nobody else.
            COPY_THRESH => listed.copy_threshold.cast_signed(),
            name => match option(name).get(socket) {
                Ok(value) => value,
                // The last: of the old type SOCK_PACKET, which has none.
                Err(Errno::NOPROTOOPT | Errno::INVAL | Errno::OPNOTSUPP) => 0,
                Err(source) => return Err(kernel("getsockopt")(source)),
            },
        };
        // The size of a header follows from there being one.
        let implied = name == VNET_HDR_SZ && value == 10;
        if value != 0 && !implied {
            options.push((place, value));
        }
    }
    Ok(options)
}

fn encode_ring(ring: sock_diag::PacketRing) -> PacketRing {
    let sock_diag::PacketRing {
        block_size,
        blocks,
        frame_size,
        frames,
        retire_timeout,
        private,
        features,
    } = ring;
    PacketRing {
        block_size,
        block_nr: blocks,
        frame_size,
        frame_nr: frames,
        retire_tmo: retire_timeout,
        sizeof_priv: private,
        features,
        head: None,
        places: Vec::new(),
    }
}

/// What the kernel lists of a socket.
fn listed(listing: &mut Listed<PacketDiag>, probe: &Probe) -> Result<Option<PacketDiag>> {
    // The kernel's numbers of socket inodes have 32 bits (get_next_ino).
    listing.of(probe.stat.st_ino as u32, SockDiag::packet, |listed| listed.inode)
}

/// Bytes that the rings of a packet socket take: the kernel maps all of them or none.
///
/// # Errors
/// The kernel does not list packet sockets.
pub fn packet_rings_len(probe: &Probe) -> Result<u64> {
    let listed = listed(&mut Listed::default(), probe)?;
    let rings = listed.map(|listed| [listed.receive_ring, listed.send_ring]);
    let rings = rings.into_iter().flatten().flatten();
    Ok(rings.map(|ring| rings::len(&encode_ring(ring))).sum())
}

/// Reads what is in the rings of a socket.
fn collect_rings(
    cx: &CollectCx<'_>,
    (probe, socket): (&Probe, BorrowedFd<'_>),
    version: i32,
    (receive, send): (&mut Option<PacketRing>, &mut Option<PacketRing>),
) -> Result<()> {
    let mapped = rings::map(socket, [receive.as_ref(), send.as_ref()]).map_err(kernel("mmap"))?;
    let Some(mapped) = mapped else { return Ok(()) };
    let heads = cx.part::<Heads>().of(socket, version).map_err(|unseen| match unseen {
        Unseen::Open => refuse(
            probe,
            "how far the kernel has got in its rings is in the kernel's memory, and that cannot \
             be read here",
            "give dormouse CAP_BPF and CAP_PERFMON, and a kernel with BTF",
        ),
        Unseen::Read => refuse(
            probe,
            "how far the kernel has got in its rings cannot be found in the kernel's memory",
            "dump again in a moment",
        ),
    })?;
    let start = receive.as_ref().map_or(0, rings::len);
    let all = [(receive, Direction::Receives, 0), (send, Direction::Sends, start)];
    for ((ring, direction, start), head) in all.into_iter().zip(heads) {
        let Some(ring) = ring else { continue };
        rings::read(ring, (version, direction), (&mapped, start), head).map_err(|unsaved| {
            match unsaved {
                Unsaved::Sending => refuse(
                    probe,
                    "frames of its ring are being sent",
                    "dump again when they are on their way",
                ),
                Unsaved::Torn => refuse(
                    probe,
                    "what is in its rings contradicts itself",
                    "have the program open it anew",
                ),
                Unsaved::Kernel(source) => kernel("mmap")(source),
            }
        })?;
    }
    Ok(())
}

/// Sockets that are mapped, until all of them are.
#[derive(Default)]
struct Made(BTreeMap<FileId, OwnedFd>);

impl Stash for Made {
    fn reached(&mut self, milestone: Milestone) -> Result<()> {
        if milestone == Milestone::Mapped {
            self.0.clear();
        }
        Ok(())
    }
}

impl FileKind for Packet {
    const NAME: &'static str = "packet socket";
    const TYPE: FdType = FdType::PacketSk;
    const RANKS: &'static [FillRank] = &[FillRank::Arm];

    fn claims(probe: &Probe) -> bool {
        probe.socket_family() == Some(SocketFamily::PACKET)
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let socket = probe.duplicate()?;
        let socket = socket.as_fd();
        cx.part::<HomeNetwork>().check(socket, probe)?;
        let Some(listed) = listed(&mut cx.part::<Listed<PacketDiag>>(), probe)? else {
            return Err(refuse(probe, "the kernel does not list it", "dump the program again"));
        };
        let interface = u32::try_from(listed.interface).map_err(|_| {
            refuse(probe, "its network interface is gone", "have the program open it anew")
        })?;
        let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).map_err(kernel("poll"))?;
        let ready = polled[0].revents();
        if ready.contains(PollFlags::ERR) {
            return Err(refuse(
                probe,
                "it has an error to tell, which cannot be put back",
                "dump again when the program has read it",
            ));
        }
        // What is in a ring is saved.
        let waits = match listed.receive_ring {
            Some(_) => tcp::received(socket).map_err(kernel("SIOCINQ"))? > 0,
            None => ready.contains(PollFlags::IN),
        };
        if waits {
            return Err(refuse(
                probe,
                "packets wait to be read, and would be lost",
                "dump again when the program has read them",
            ));
        }
        let fanout = match listed.fanout {
            true => Some(option(FANOUT).get(socket).map_err(kernel("PACKET_FANOUT"))?),
            false => None,
        };
        let fanout = fanout.map(i32::cast_unsigned);
        if fanout.is_some_and(|it| [FANOUT_CBPF, FANOUT_EBPF].contains(&(it >> 16 & 0xff))) {
            return Err(refuse(
                probe,
                "the BPF program that divides what its fanout group gets cannot be read",
                "have the program divide it by hash or processor",
            ));
        }
        let memberships = listed.memberships.iter().flat_map(|membership| {
            let sock_diag::PacketMembership { interface, count, kind, address } = membership;
            let one = Membership { interface: *interface, kind: *kind, address: address.clone() };
            std::iter::repeat_n(one, *count as usize)
        });
        let options = numbers(socket, &listed)?;
        let mut receive_ring = listed.receive_ring.map(encode_ring);
        let mut send_ring = listed.send_ring.map(encode_ring);
        collect_rings(
            cx,
            (probe, socket),
            number(&options, VERSION),
            (&mut receive_ring, &mut send_ring),
        )?;
        if listed.protocol == 0 && receive_ring.as_ref().is_some_and(|ring| ring.head.is_some()) {
            return Err(refuse(
                probe,
                "its ring has received packets, and it receives nothing any more",
                "have the program open it anew",
            ));
        }
        Ok(Self {
            status,
            kind: listed.kind.into(),
            protocol: listed.protocol,
            interface,
            options,
            memberships: memberships.collect(),
            fanout,
            receive_ring,
            send_ring,
            socket_options: SocketOptions::collect(socket)?,
        })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self {
            status,
            kind,
            protocol,
            interface,
            options,
            memberships,
            fanout,
            receive_ring,
            send_ring,
            socket_options,
        } = self;
        let (flags, fown) = status.encode();
        let name = |index| match index {
            0 => Ok(None),
            index => interfaces::name(index).map(Some),
        };
        let mclist = memberships.iter().map(|Membership { interface, kind, address }| {
            Ok(PacketMclist {
                index: *interface,
                kind: (*kind).into(),
                addr: address.clone(),
                ifname: name(*interface)?,
            })
        });
        let mut psk = PacketSockEntry {
            id: id.as_raw(),
            kind: kind.cast_unsigned(),
            protocol: protocol.to_be().into(),
            flags,
            ifindex: *interface,
            fown,
            opts: socket_options.encode(),
            mclist: mclist.collect::<Result<_>>()?,
            fanout: *fanout,
            rx_ring: receive_ring.clone(),
            tx_ring: send_ring.clone(),
            ifname: name(*interface)?,
            ..PacketSockEntry::default()
        };
        for &(place, value) in options {
            let number = value.cast_unsigned();
            match OPTIONS[place] {
                VERSION => psk.version = number,
                RESERVE => psk.reserve = number,
                AUXDATA => psk.aux_data = true,
                ORIGDEV => psk.orig_dev = true,
                VNET_HDR => psk.vnet_hdr = true,
                LOSS => psk.loss = true,
                TIMESTAMP => psk.timestamp = number,
                COPY_THRESH => psk.copy_thresh = number,
                name => {
                    psk.more.push(PacketMoreOptEntry { name: name.cast_unsigned(), value });
                }
            }
        }
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            psk: Some(Box::new(psk)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, _: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(psk) = entry.psk.as_deref() else {
            return Err(wrong("it has no packet_sock_entry"));
        };
        if psk.id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let kind = psk.kind.cast_signed();
        if ![libc::SOCK_RAW, libc::SOCK_DGRAM, SOCK_PACKET].contains(&kind) {
            return Err(wrong("no packet socket is of its type"));
        }
        // CRIU has numbers only.
        let index = |name: &Option<Vec<u8>>, number| match name {
            Some(name) => interfaces::index(name, Self::NAME),
            None => Ok(number),
        };
        let mut memberships = Vec::new();
        for PacketMclist { index: number, kind, addr, ifname } in &psk.mclist {
            let kind =
                u16::try_from(*kind).map_err(|_| wrong("the type of a membership is none"))?;
            if addr.len() > MAX_ADDRESS {
                return Err(wrong("the address of a membership is too long"));
            }
            let interface = index(ifname, *number)?;
            memberships.push(Membership { interface, kind, address: addr.clone() });
        }
        let options = decode_options(psk).map_err(wrong)?;
        let version = number(&options, VERSION);
        let start = psk.rx_ring.as_ref().map_or(0, rings::len);
        for (ring, place) in
            [(&psk.rx_ring, (Direction::Receives, 0)), (&psk.tx_ring, (Direction::Sends, start))]
        {
            if let Some(ring) = ring {
                rings::check(ring, version, place).map_err(wrong)?;
            }
        }
        Ok(Self {
            status: Status::decode(Self::NAME, id, psk.flags, &psk.fown)?,
            kind,
            protocol: u16::from_be(
                u16::try_from(psk.protocol).map_err(|_| wrong("its protocol is none"))?,
            ),
            interface: index(&psk.ifname, psk.ifindex)?,
            options,
            memberships,
            // CRIU's word for none.
            fanout: psk.fanout.filter(|&fanout| fanout != u32::MAX),
            receive_ring: psk.rx_ring.clone(),
            send_ring: psk.tx_ring.clone(),
            socket_options: SocketOptions::decode(&psk.opts).map_err(wrong)?,
        })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, id: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        if cx.files().is_opened(id) { self.made(id, cx) } else { self.make() }
    }

    fn inode(&self) -> Option<&dyn Inode> {
        Some(self)
    }

    fn fill(_: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        files.iter().try_for_each(|Created { kind: socket, file, .. }| socket.arm(*file))
    }
}

impl Inode for Packet {
    /// A mapping of rings is of the socket itself, which the program has open.
    fn open(&self, id: FileId, _: OFlags, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        if !cx.files().is_described(id) {
            let reason = "its rings are mapped, and nobody has it open";
            return Err(corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason));
        }
        self.made(id, cx)
    }
}

impl Packet {
    /// The one socket that is open and mapped.
    fn made(&self, id: FileId, cx: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let made = match cx.stash::<Made>().0.entry(id) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => place.insert(self.make()?),
        };
        made.try_clone().map_err(Error::kernel_io("dup", Self::NAME))
    }

    /// Makes it, with all that its rings depend on, and the rings as they were.
    fn make(&self) -> Result<OwnedFd> {
        // A socket of this old type cannot be told later.
        let protocol = if self.kind == SOCK_PACKET { self.protocol.to_be() } else { 0 };
        let protocol = std::num::NonZeroU32::new(protocol.into());
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::from_raw(self.kind.cast_unsigned()),
            SocketFlags::CLOEXEC,
            protocol.map(Protocol::from_raw),
        )
        .map_err(kernel("socket"))?;
        self.status.apply(Self::NAME, socket.as_fd())?;
        self.set_numbers(socket.as_fd(), true)?;
        let version = number(&self.options, VERSION);
        for (name, ring) in [(RX_RING, &self.receive_ring), (TX_RING, &self.send_ring)] {
            if let Some(ring) = ring {
                let value = ring_request(ring, version == rings::V3);
                option(name).set_bytes(&socket, &value).map_err(kernel("PACKET_RX_RING"))?;
            }
        }
        let header =
            number(&self.options, VNET_HDR_SZ).max(match number(&self.options, VNET_HDR) {
                0 => 0,
                // struct virtio_net_hdr.
                _ => 10,
            });
        Progress {
            socket: socket.as_fd(),
            version,
            before: usize::try_from(header).unwrap_or(0),
            receive: self.receive_ring.as_ref(),
            send: self.send_ring.as_ref(),
        }
        .make()
        .map_err(kernel("PACKET_RX_RING"))?;
        Ok(socket)
    }

    /// Sets options that are numbers: those that come before the rings, or the others.
    fn set_numbers(&self, file: BorrowedFd<'_>, before: bool) -> Result<()> {
        for &(place, value) in &self.options {
            if BEFORE_RINGS.contains(&OPTIONS[place]) == before {
                option(OPTIONS[place]).set(file, value).map_err(kernel("setsockopt"))?;
            }
        }
        Ok(())
    }
}

/// Options that are not as in a new socket.
fn decode_options(psk: &PacketSockEntry) -> Result<Vec<(usize, i32)>, &'static str> {
    let more = psk.more.iter().map(|option| (option.name.cast_signed(), option.value));
    let fields = [
        (VERSION, psk.version),
        (RESERVE, psk.reserve),
        (AUXDATA, psk.aux_data.into()),
        (ORIGDEV, psk.orig_dev.into()),
        (VNET_HDR, psk.vnet_hdr.into()),
        (LOSS, psk.loss.into()),
        (TIMESTAMP, psk.timestamp),
        (COPY_THRESH, psk.copy_thresh),
    ];
    let fields = fields.map(|(name, value)| (name, value.cast_signed()));
    let mut options = Vec::new();
    for (name, value) in fields.into_iter().chain(more).filter(|&(_, value)| value != 0) {
        let place = OPTIONS.iter().position(|&own| own == name);
        options.push((place.ok_or("it has an option that is unknown here")?, value));
    }
    options.sort_unstable();
    Ok(options)
}

impl Packet {
    fn arm(&self, file: BorrowedFd<'_>) -> Result<()> {
        self.socket_options.apply(file)?;
        self.set_numbers(file, false)?;
        // What the filter keeps out is not to come in.
        self.socket_options.finish(file)?;
        self.bind(file)?;
        for Membership { interface, kind, address } in &self.memberships {
            // struct packet_mreq, or one with a longer address.
            let mut value = interface.to_ne_bytes().to_vec();
            value.extend([*kind, address.len() as u16].map(u16::to_ne_bytes).as_flattened());
            value.extend(address);
            value.resize(value.len().max(16), 0);
            option(ADD_MEMBERSHIP)
                .set_bytes(file, &value)
                .map_err(kernel("PACKET_ADD_MEMBERSHIP"))?;
        }
        if let Some(fanout) = self.fanout {
            let value = (fanout & !FANOUT_UNIQUE).cast_signed();
            option(FANOUT).set(file, value).map_err(kernel("PACKET_FANOUT"))?;
        }
        if self.receive_ring.as_ref().is_some_and(|ring| ring.head.is_some()) {
            // What has brought the ring to where it was does not count. Told once, it is forgotten.
            option(STATISTICS).get_into(file, &mut [0; 12]).map_err(kernel("PACKET_STATISTICS"))?;
        }
        Ok(())
    }

    fn bind(&self, file: BorrowedFd<'_>) -> Result<()> {
        let bound = match (self.kind, self.interface, self.protocol) {
            (SOCK_PACKET, 0, _) | (_, 0, 0) => Ok(()),
            (SOCK_PACKET, interface, _) => bind_packet_by_name(file, &interfaces::name(interface)?),
            (_, interface, protocol) => bind_packet(file, protocol, interface),
        };
        bound.map_err(kernel("bind"))
    }
}

/// `struct tpacket_req`, or `tpacket_req3`.
fn ring_request(ring: &PacketRing, is_v3: bool) -> Vec<u8> {
    let PacketRing { block_size, block_nr, frame_size, frame_nr, .. } = *ring;
    let mut numbers = vec![block_size, block_nr, frame_size, frame_nr];
    if is_v3 {
        numbers.extend([ring.retire_tmo, ring.sizeof_priv, ring.features]);
    }
    numbers.into_iter().flat_map(u32::to_ne_bytes).collect()
}
