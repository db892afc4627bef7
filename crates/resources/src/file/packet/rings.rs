//! What is in the rings of a packet socket, and how far the kernel has got in them.
//!
//! Kernel object: `struct packet_ring_buffer`, twice.
//! Truth from: the rings, mapped; the kernel's memory, for what place comes next.
//! Not preserved: the numbers of blocks (`TPACKET_V3`) go on from another one; a block that was
//! not full yet is handed over.

use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dormouse_image::proto::files::packet::{PacketPlaceEntry, PacketRing};
use dormouse_kernel::Errno;
use dormouse_kernel::socket::MappedRings;
use epoll_interest::kernel_memory::{Btf, BtfError, KernelMemory, OpenError, OpenFiles, ReadError};

/// More bytes than the kernel finds room for.
const MAX_RING: u64 = 1 << 36;

// `enum tpacket_versions`.
const V1: i32 = 0;
pub(super) const V3: i32 = 2;

// include/uapi/linux/if_packet.h: of a frame that was received, and of a block.
pub(super) const USER: u32 = 1;
const BLOCK_TIMED_OUT: u32 = 1 << 5;
// Of one to be sent.
pub(super) const SEND_REQUEST: u32 = 1;
const SENDING: u32 = 2;

/// `struct tpacket_block_desc`.
pub(super) mod block {
    pub(in super::super) const STATUS: usize = 8;
    pub(in super::super) const PACKETS: usize = 12;
    pub(super) const FIRST: usize = 16;
    pub(super) const LAST_TIME: usize = 40;
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Receives,
    Sends,
}

/// Where the places of a ring are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) number: u32,
    /// Bytes of each.
    pub(super) size: usize,
    start: usize,
    in_block: usize,
    block_size: usize,
    pub(super) status: usize,
}

impl Places {
    /// Those of a ring that begins `start` bytes behind the beginning of both; `None` if no ring is
    /// like that.
    pub(super) fn of(
        ring: &PacketRing,
        (version, direction): (i32, Direction),
        start: u64,
    ) -> Option<Self> {
        let PacketRing { block_size, block_nr, frame_size, frame_nr, .. } = *ring;
        let in_block = block_size.checked_div(frame_size).filter(|&number| number > 0)?;
        let is_possible = len(ring) > 0
            && start.checked_add(len(ring)).is_some_and(|end| end <= MAX_RING)
            && in_block.checked_mul(block_nr) == Some(frame_nr);
        let status = match (version, direction) {
            (V3, Direction::Receives) => block::STATUS,
            (V3, Direction::Sends) => 20,
            _ => 0,
        };
        let (number, in_block, size) = match (version, direction) {
            (V3, Direction::Receives) => (block_nr, 1, block_size),
            _ => (frame_nr, in_block, frame_size),
        };
        is_possible.then_some(Self {
            number,
            size: size as usize,
            start: usize::try_from(start).ok()?,
            in_block: in_block as usize,
            block_size: block_size as usize,
            status,
        })
    }

    pub(super) fn offset(self, place: u32) -> usize {
        let place = place as usize;
        let block = place / self.in_block * self.block_size;
        self.start + block + place % self.in_block * self.size
    }

    pub(super) fn status(self, rings: &MappedRings, place: u32) -> Result<u32, Errno> {
        rings.number(self.offset(place) + self.status)
    }
}

/// Bytes that a ring takes.
pub(super) fn len(ring: &PacketRing) -> u64 {
    u64::from(ring.block_size) * u64::from(ring.block_nr)
}

/// Maps both rings, if there are any.
pub(super) fn map(
    socket: BorrowedFd<'_>,
    rings: [Option<&PacketRing>; 2],
) -> Result<Option<MappedRings>, Errno> {
    let all = rings.into_iter().flatten().map(len).sum::<u64>();
    match usize::try_from(all) {
        Ok(0) => Ok(None),
        Ok(all) => MappedRings::map(socket, all).map(Some),
        Err(_) => Err(Errno::NOMEM),
    }
}

/// Judges what an image has.
pub(super) fn check(
    ring: &PacketRing,
    version: i32,
    (direction, start): (Direction, u64),
) -> Result<(), &'static str> {
    let places = Places::of(ring, (version, direction), start);
    let places = places.ok_or("one of its rings is none")?;
    if ring.head.is_some_and(|head| head >= places.number) {
        return Err("the place in which the kernel goes on is not in its ring");
    }
    let fits =
        |place: &PacketPlaceEntry| place.number < places.number && place.bytes.len() <= places.size;
    match ring.places.iter().all(fits) {
        true => Ok(()),
        false => Err("more is in one of its rings than there is room for"),
    }
}

/// Why what is in rings cannot be saved.
#[derive(Debug)]
pub(super) enum Unsaved {
    /// Frames are on their way out.
    Sending,
    /// What the kernel has written contradicts itself.
    Torn,
    Kernel(Errno),
}

impl From<Errno> for Unsaved {
    fn from(error: Errno) -> Self {
        Self::Kernel(error)
    }
}

/// Reads what is in the places of a ring that are the program's. `head` is where the kernel goes
/// on.
pub(super) fn read(
    ring: &mut PacketRing,
    (version, direction): (i32, Direction),
    (rings, start): (&MappedRings, u64),
    head: u32,
) -> Result<(), Unsaved> {
    let places = Places::of(ring, (version, direction), start).ok_or(Unsaved::Torn)?;
    let mut head = if head < places.number { head } else { return Err(Unsaved::Torn) };
    let mut kept = Vec::new();
    for place in 0..places.number {
        let status = match direction {
            Direction::Receives => places.status(rings, place)?,
            Direction::Sends => until_sent(rings, places, place)?,
        };
        if direction == Direction::Receives && status == 0 {
            continue;
        }
        // A program that sends may be about to write to any.
        let bytes = rings.bytes(places.offset(place), places.size)?;
        kept.extend(entry(place, bytes));
    }
    if (version, direction) == (V3, Direction::Receives) && places.status(rings, head)? == 0 {
        let bytes = rings.bytes(places.offset(head), places.size)?;
        if let Some(closed) = close(bytes)? {
            kept.extend(entry(head, closed));
            head = (head + 1) % places.number;
        }
    }
    ring.head = (head != 0).then_some(head);
    ring.places = kept;
    Ok(())
}

/// `None` if there is nothing in it.
fn entry(number: u32, mut bytes: Vec<u8>) -> Option<PacketPlaceEntry> {
    let len = bytes.iter().rposition(|&byte| byte != 0)? + 1;
    bytes.truncate(len);
    Some(PacketPlaceEntry { number, bytes })
}

/// The status of a frame that is not on its way.
fn until_sent(rings: &MappedRings, places: Places, place: u32) -> Result<u32, Unsaved> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let since = Instant::now();
    loop {
        match places.status(rings, place)? {
            status if status & SENDING == 0 => return Ok(status),
            _ if since.elapsed() > PATIENCE => return Err(Unsaved::Sending),
            _ => sleep(Duration::from_millis(1)),
        }
    }
}

/// A block that the kernel was about to fill, as it hands it over when the time is up
/// (`prb_close_block` in `net/packet/af_packet.c`); `None` if nothing is in it.
fn close(mut bytes: Vec<u8>) -> Result<Option<Vec<u8>>, Unsaved> {
    let number = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let packets = number(&bytes, block::PACKETS).ok_or(Unsaved::Torn)?;
    if packets == 0 {
        return Ok(None);
    }
    // struct tpacket3_hdr: where the next is, then the time.
    let mut last = number(&bytes, block::FIRST).ok_or(Unsaved::Torn)? as usize;
    for _ in 1..packets {
        let next = number(&bytes, last).filter(|&next| next > 0).ok_or(Unsaved::Torn)?;
        last = last.saturating_add(next as usize);
    }
    let time = last.checked_add(4).and_then(|at| bytes.get(at..at.checked_add(8)?));
    let time = time.ok_or(Unsaved::Torn)?.to_vec();
    let status = (USER | BLOCK_TIMED_OUT).to_ne_bytes();
    let next = [0; 4];
    for (at, value) in [(block::STATUS, &status[..]), (block::LAST_TIME, &time), (last, &next)] {
        bytes.get_mut(at..at + value.len()).ok_or(Unsaved::Torn)?.copy_from_slice(value);
    }
    Ok(Some(bytes))
}

/// Offsets in bytes.
struct Layout {
    files: OpenFiles,
    socket_sock: usize,
    /// Of the next frame to be received, of the block that is being filled, and of the next frame
    /// to be sent, in a `struct packet_sock`.
    receive_head: usize,
    active_block: usize,
    send_head: usize,
}

fn layout(btf: &Btf<'_>) -> Result<Layout, BtfError> {
    let socket = btf.structure("packet_sock")?;
    let (receive, ring) = socket.member("rx_ring")?;
    let (send, _) = socket.member("tx_ring")?;
    let (blocks, block) = ring.member("prb_bdqc")?;
    Ok(Layout {
        files: OpenFiles::new(btf)?,
        socket_sock: btf.structure("socket")?.offset("sk")?,
        receive_head: receive + ring.offset("head")?,
        active_block: receive + blocks + block.offset("kactive_blk_num")?,
        send_head: send + ring.offset("head")?,
    })
}

/// Why it cannot be read how far the kernel has got.
#[derive(Debug)]
pub(super) enum Unseen {
    /// The system does not let it, or has no type information.
    Open,
    /// Nothing is where it should be.
    Read,
}

impl From<OpenError> for Unseen {
    fn from(_: OpenError) -> Self {
        Self::Open
    }
}

impl From<ReadError> for Unseen {
    fn from(_: ReadError) -> Self {
        Self::Read
    }
}

/// What reads how far the kernel has got.
#[derive(Default)]
pub(super) struct Heads(Option<(KernelMemory, Layout)>);

impl Heads {
    /// The places in which it goes on to receive and to send.
    pub(super) fn of(&mut self, socket: BorrowedFd<'_>, version: i32) -> Result<[u32; 2], Unseen> {
        let (memory, layout) = match &mut self.0 {
            Some(known) => known,
            none => none.insert(KernelMemory::open(layout)?),
        };
        let socket = layout.files.private_data(memory, &[socket])?;
        let socket = socket.first().copied().ok_or(ReadError::Fault)?;
        let sock = memory.word(socket + layout.socket_sock as u64)?;
        let sends = memory.word(sock + layout.send_head as u64)? as u32;
        let receives = match version {
            V3 => u32::from(memory.word(sock + layout.active_block as u64)? as u16),
            _ => memory.word(sock + layout.receive_head as u64)? as u32,
        };
        Ok([receives, sends])
    }
}

/// Where the header of a frame that is to be sent has what: length, the places of data for
/// `PACKET_TX_HAS_OFF` (two numbers of 16 bits), and where data begin otherwise.
pub(super) fn sent_header(version: i32) -> (usize, usize, usize) {
    match version {
        V1 => (8, 16, 32),
        V3 => (16, 24, 48),
        _ => (4, 12, 32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> PacketRing {
        PacketRing {
            block_size: 8192,
            block_nr: 2,
            frame_size: 3072,
            frame_nr: 4,
            ..PacketRing::default()
        }
    }

    #[test]
    fn frames_do_not_cross_blocks() {
        let places = Places::of(&ring(), (V1, Direction::Sends), 4096).unwrap();
        let offsets: Vec<_> = (0..places.number).map(|place| places.offset(place)).collect();
        assert_eq!(offsets, [4096, 7168, 12288, 15360]);
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        let place = |number, len| PacketPlaceEntry { number, bytes: vec![1; len] };
        let good = PacketRing { head: Some(3), places: vec![place(3, 3072)], ..ring() };
        assert_eq!(check(&good, V1, (Direction::Receives, 0)), Ok(()));
        for bad in [
            PacketRing { head: Some(4), ..ring() },
            PacketRing { places: vec![place(4, 1)], ..ring() },
            PacketRing { places: vec![place(0, 3073)], ..ring() },
            PacketRing { frame_nr: 5, ..ring() },
            PacketRing { frame_size: 0, ..ring() },
            PacketRing { block_nr: u32::MAX, block_size: u32::MAX, ..ring() },
        ] {
            assert!(check(&bad, V1, (Direction::Receives, 0)).is_err());
        }
    }

    #[test]
    fn a_block_is_closed_behind_its_last_packet() {
        let mut bytes = vec![0; 256];
        let mut put = |at: usize, number: u32| {
            bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        };
        put(block::PACKETS, 2);
        put(block::FIRST, 48);
        put(48, 80);
        put(128, 80);
        put(132, 7);
        put(136, 8);
        let closed = close(bytes.clone()).unwrap().unwrap();
        assert_eq!(closed[block::STATUS..][..4], 33_u32.to_ne_bytes());
        assert_eq!(closed[block::LAST_TIME..][..8], bytes[132..140]);
        assert_eq!(closed[128..132], [0; 4]);
        bytes[48..52].fill(0);
        assert!(matches!(close(bytes), Err(Unsaved::Torn)));
    }
}
