//! How the rings of a new packet socket come to where they were.
//!
//! The kernel begins with the first place of a ring, and goes on with every packet. So it is sent as
//! many as it takes: over the loopback interface, of a protocol that is for experiments.
//! Whoever listens there to all there is sees them.

use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dormouse_image::proto::files::packet::PacketRing;
use dormouse_kernel::Errno;
use dormouse_kernel::socket::{MappedRings, bind_packet, send_packet};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::rings::{Direction, Places, SEND_REQUEST, USER, V3, block, len, map, sent_header};

/// `ETH_P_802_EX1`.
const PROTOCOL: u16 = 0x88b5;
/// `LOOPBACK_IFINDEX`.
const LOOPBACK: u32 = 1;
/// Bytes of a short packet, all of it.
const SHORT: usize = 60;
/// More than fits into most blocks, and not more than the interface takes.
const LONG: usize = 32 << 10;
/// Packets that may be on their way at once.
const AT_ONCE: u32 = 256;
const PATIENCE: Duration = Duration::from_secs(15);

/// The rings of a new socket that is bound to nothing yet.
pub(super) struct Progress<'a> {
    pub(super) socket: BorrowedFd<'a>,
    pub(super) version: i32,
    /// Bytes before each packet that is to be sent (`PACKET_VNET_HDR`).
    pub(super) before: usize,
    pub(super) receive: Option<&'a PacketRing>,
    pub(super) send: Option<&'a PacketRing>,
}

fn frame(len: usize) -> Vec<u8> {
    // Both hardware addresses are zeros.
    let mut frame = vec![0; len];
    frame[12..14].copy_from_slice(&PROTOCOL.to_be_bytes());
    frame
}

/// Takes what came out of some places.
fn clear(
    rings: &MappedRings,
    places: Places,
    mut some: impl Iterator<Item = u32>,
) -> Result<(), Errno> {
    some.try_for_each(|place| rings.write(places.offset(place), &vec![0; places.size]))
}

fn until(mut is_so: impl FnMut() -> Result<bool, Errno>) -> Result<(), Errno> {
    let since = Instant::now();
    while !is_so()? {
        if since.elapsed() > PATIENCE {
            return Err(Errno::TIME);
        }
        sleep(Duration::from_micros(50));
    }
    Ok(())
}

impl Progress<'_> {
    /// Has them be as they were.
    pub(super) fn make(&self) -> Result<(), Errno> {
        let is_new = |ring: &PacketRing| ring.head.is_none() && ring.places.is_empty();
        if [self.receive, self.send].into_iter().flatten().all(is_new) {
            return Ok(());
        }
        let Some(rings) = map(self.socket, [self.receive, self.send])? else { return Ok(()) };
        let places = |ring, direction, start| {
            Places::of(ring, (self.version, direction), start).ok_or(Errno::INVAL)
        };
        if let Some(ring) = self.receive {
            let places = places(ring, Direction::Receives, 0)?;
            match self.version {
                V3 => self.receive_blocks(&rings, places, ring)?,
                _ => self.receive_frames(&rings, places, ring)?,
            }
        }
        if let Some(ring) = self.send {
            let places = places(ring, Direction::Sends, self.receive.map_or(0, len))?;
            self.send_frames(&rings, places, ring.head.unwrap_or(0))?;
            put(&rings, places, ring, |_| true)?;
        }
        Ok(())
    }

    /// Has the socket receive, and says what sends.
    fn receiving(&self) -> Result<impl Fn(usize) -> Result<(), Errno>, Errno> {
        let sender =
            socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind_packet(self.socket, PROTOCOL, LOOPBACK)?;
        Ok(move |len| send_packet(&sender, (PROTOCOL, LOOPBACK), &frame(len)))
    }

    fn receive_frames(
        &self,
        rings: &MappedRings,
        places: Places,
        ring: &PacketRing,
    ) -> Result<(), Errno> {
        let head = ring.head.unwrap_or(0);
        if head > 0 {
            let send = self.receiving()?;
            for place in 0..head {
                send(SHORT)?;
                if place % AT_ONCE == 0 || place == head - 1 {
                    until(|| Ok(places.status(rings, place)? & USER != 0))?;
                }
            }
        }
        clear(rings, places, 0..head)?;
        put(rings, places, ring, |_| true)
    }

    /// The kernel fills a block until nothing more fits, or time is up. If it comes to one that is
    /// the program's, it waits for that.
    fn receive_blocks(
        &self,
        rings: &MappedRings,
        places: Places,
        ring: &PacketRing,
    ) -> Result<(), Errno> {
        let head = ring.head.unwrap_or(0);
        let waits = ring.places.iter().any(|place| place.number == head);
        let passed = if head == 0 && waits { places.number } else { head };
        // What the kernel is to find there.
        put(rings, places, ring, |place| place >= passed)?;
        if passed > 0 {
            let send = self.receiving()?;
            let is_full = |place| Ok(places.status(rings, place)? & USER != 0);
            for place in 0..passed - 1 {
                until(|| {
                    let full = is_full(place)?;
                    if !full {
                        send(LONG)?;
                    }
                    Ok(full)
                })?;
            }
            if passed > 1 {
                // It has passed this one, and is to find it again.
                put(rings, places, ring, |place| place == head)?;
            }
            // So that nothing gets into the next, it is time that makes this one full.
            let last = passed - 1;
            let has_any =
                || Ok(is_full(last)? || rings.number(places.offset(last) + block::PACKETS)? > 0);
            if !has_any()? {
                send(SHORT)?;
                until(has_any)?;
            }
            let since = Instant::now();
            let patience = Duration::from_millis(ring.retire_tmo.into()) + PATIENCE;
            while !is_full(last)? {
                if since.elapsed() > patience {
                    return Err(Errno::TIME);
                }
                sleep(Duration::from_millis(1));
            }
            if !waits && rings.number(places.offset(head) + block::PACKETS)? > 0 {
                return Err(Errno::BUSY);
            }
            clear(rings, places, (0..passed).filter(|&place| place != head))?;
        }
        put(rings, places, ring, |place| place < passed)
    }

    fn send_frames(&self, rings: &MappedRings, places: Places, head: u32) -> Result<(), Errno> {
        if head == 0 {
            return Ok(());
        }
        let (len, offsets, data) = sent_header(self.version);
        let mut header = vec![0; data + self.before];
        let bytes = (SHORT + self.before) as u32;
        header[len..len + 4].copy_from_slice(&bytes.to_ne_bytes());
        let at = (data as u16).to_ne_bytes();
        header[offsets..offsets + 4].copy_from_slice([at, at].as_flattened());
        header[places.status..places.status + 4].copy_from_slice(&SEND_REQUEST.to_ne_bytes());
        header.extend(frame(SHORT));
        if header.len() > places.size {
            return Err(Errno::MSGSIZE);
        }
        for place in 0..head {
            rings.write(places.offset(place), &header)?;
        }
        send_packet(self.socket, (PROTOCOL, LOOPBACK), &[])?;
        for place in 0..head {
            until(|| Ok(places.status(rings, place)? == 0))?;
            rings.write(places.offset(place), &vec![0; header.len()])?;
        }
        Ok(())
    }
}

/// Puts back what was in places.
fn put(
    rings: &MappedRings,
    places: Places,
    ring: &PacketRing,
    which: impl Fn(u32) -> bool,
) -> Result<(), Errno> {
    let all = ring.places.iter().filter(|place| which(place.number));
    for place in all {
        rings.write(places.offset(place.number), &place.bytes)?;
    }
    Ok(())
}
