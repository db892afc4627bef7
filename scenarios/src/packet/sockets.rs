//! Packet sockets: raw and cooked, bound, with a filter, a ring, a membership, in a fanout group,
//! new.
//!
//! Verified: options; what they receive, and what the filter keeps out; that the ring is filled; the
//! membership.
//! CRIU: works.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{AddressFamily, RecvFlags, SocketType, recv, socket};

use crate::facts::Users;
use crate::inet::place::{option, set, set_bytes};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).faults();

const PACKET: i32 = 263;
const ADD_MEMBERSHIP: i32 = 1;
const DROP_MEMBERSHIP: i32 = 2;
const RX_RING: i32 = 5;
const FANOUT: i32 = 18;
const LOOPBACK: u32 = 1;
const PAGE: usize = 4096;

/// `AUXDATA`, `ORIGDEV`, `VERSION`, `RESERVE`, `LOSS`, `TIMESTAMP`, `FANOUT`, `QDISC_BYPASS`,
/// `IGNORE_OUTGOING`.
const NAMES: [i32; 9] = [8, 9, 10, 12, 14, 17, 18, 20, 23];

pub(super) fn packet(kind: SocketType) -> OwnedFd {
    socket(AddressFamily::PACKET, kind, None).expect("socket")
}

fn address(protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all zeros are an address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = LOOPBACK as i32;
    address.sll_halen = 6;
    address
}

const LEN: u32 = size_of::<libc::sockaddr_ll>() as u32;

pub(super) fn bound(kind: SocketType, protocol: u16) -> OwnedFd {
    let socket = packet(kind);
    let address = address(protocol);
    // SAFETY: `LEN` bytes are read.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), LEN) };
    assert_eq!(result, 0, "bind");
    socket
}

pub(super) fn send(from: &OwnedFd, protocol: u16, bytes: &[u8]) -> bool {
    let address = address(protocol);
    let to = (&raw const address).cast();
    // SAFETY: bytes and address are read, as many as are told.
    let sent =
        unsafe { libc::sendto(from.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, to, LEN) };
    sent == bytes.len() as isize
}

/// What is in the queue.
pub(super) fn all(socket: &OwnedFd) -> Vec<Vec<u8>> {
    let next = || {
        let mut bytes = [0; 256];
        let len = recv(socket, &mut bytes[..], RecvFlags::DONTWAIT).ok()?.0;
        Some(bytes[..len].to_vec())
    };
    std::iter::from_fn(next).collect()
}

/// A number that no other scenario has at the same time.
pub(super) fn hash(cx: &Context) -> u64 {
    let mut hasher = DefaultHasher::new();
    cx.path("").hash(&mut hasher);
    hasher.finish()
}

fn run(cx: &mut Context) {
    let hash = hash(cx);
    // Nobody has protocols like these.
    let [one, other] = [0, 1].map(|bit| 0xa000 | (hash as u16 & 0xffe) | bit);
    let cooked = bound(SocketType::DGRAM, one);
    let raw = bound(SocketType::RAW, one);
    set(&raw, (PACKET, 8), 1);
    set(&raw, (PACKET, 9), 1);
    set(&raw, (PACKET, 17), 1);
    set(&raw, (PACKET, 23), 1);
    let filtered = bound(SocketType::DGRAM, one);
    // Only what begins with this byte: load it, compare, all or nothing.
    let filter: [[u16; 4]; 4] =
        [[0x30, 0, 0, 0], [0x15, 0x100, 0x61, 0], [6, 0, 0xffff, 0], [6, 0, 0, 0]];
    let program = (filter.len(), filter.as_ptr());
    let mut value = (program.0 as u64).to_ne_bytes().to_vec();
    value.extend((program.1 as u64).to_ne_bytes());
    set_bytes(&filtered, (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), &value);
    let in_group = bound(SocketType::DGRAM, one);
    let group = (hash >> 16) as u16 as i32 | 1 << 16 | 0x1000 << 16;
    set(&in_group, (PACKET, FANOUT), group);
    // struct packet_mreq: interface, type (PACKET_MR_MULTICAST), length, address.
    let [a, b, c, ..] = hash.to_be_bytes();
    let member = [1, 0, 0x5e, a, b, c];
    let mut membership = LOOPBACK.to_ne_bytes().to_vec();
    membership.extend([0, 6_u16].map(u16::to_ne_bytes).as_flattened());
    membership.extend(member);
    membership.extend([0, 0]);
    set_bytes(&cooked, (PACKET, ADD_MEMBERSHIP), &membership);
    let is_member = || {
        let groups = std::fs::read_to_string("/proc/self/net/dev_mcast").unwrap_or_default();
        groups.contains(&member.map(|byte| format!("{byte:02x}")).concat())
    };
    check!(is_member(), "a membership shows");
    let with_ring = bound(SocketType::RAW, other);
    set(&with_ring, (PACKET, 10), 1);
    set(&with_ring, (PACKET, 12), 16);
    let ring = [PAGE as u32, 2, 1024, 8].map(u32::to_ne_bytes);
    set_bytes(&with_ring, (PACKET, RX_RING), ring.as_flattened());
    let fresh = packet(SocketType::RAW);
    let all_sockets = [&cooked, &raw, &filtered, &in_group, &with_ring, &fresh];
    let state =
        || all_sockets.map(|socket| NAMES.map(|name| (name, option(socket, (PACKET, name)))));
    let before = state();

    cx.ready_and_wait();

    for (number, (now, before)) in state().iter().zip(&before).enumerate() {
        check_eq!(now, before, "options of socket {number}");
    }
    let sender = packet(SocketType::DGRAM);
    check!(send(&sender, one, b"abc") && send(&sender, one, b"xyz"), "sending");
    let (abc, xyz) = (b"abc".to_vec(), b"xyz".to_vec());
    // What leaves comes in again, and is seen both times.
    let seen = |socket: &OwnedFd| {
        let mut seen = all(socket);
        seen.dedup();
        seen.retain(|bytes| bytes.len() == 3);
        seen.sort();
        seen.dedup();
        seen
    };
    check_eq!(seen(&cooked), [abc.clone(), xyz.clone()], "the cooked one");
    check_eq!(seen(&in_group), [abc.clone(), xyz], "the one in a group");
    check_eq!(seen(&filtered), [abc], "the one with a filter");
    let frames: Vec<usize> = all(&raw).iter().map(Vec::len).collect();
    check_eq!(frames, [17, 17], "the raw one, which sees nothing leave");
    check_eq!(all(&fresh), Vec::<Vec<u8>>::new(), "the new one");
    check!(is_member(), "the membership");
    set_bytes(&cooked, (PACKET, DROP_MEMBERSHIP), &membership);
    check!(!is_member(), "when it was given up");
    check!(send(&sender, other, b"for the ring"), "sending");
    check!(ring_is_filled(&with_ring), "the ring");
}

/// Whether the first frame of the ring is the program's.
fn ring_is_filled(socket: &OwnedFd) -> bool {
    // SAFETY: a new mapping, where there is room.
    let mapped = unsafe {
        mmap(std::ptr::null_mut(), 2 * PAGE, ProtFlags::READ, MapFlags::SHARED, socket, 0)
    };
    let Ok(ring) = mapped else { return false };
    // SAFETY: a frame begins with its status (struct tpacket2_hdr); the mapping is there until the
    // next call, which takes away all of it.
    unsafe {
        let status = ring.cast::<u32>().read_volatile();
        munmap(ring, 2 * PAGE).expect("munmap");
        status & 1 == 1
    }
}
