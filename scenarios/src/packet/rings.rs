//! Packet sockets with rings that are mapped, of all three versions: frames were read, others wait,
//! and the program goes on behind them; one is full. One that sends by a ring; a mapping that is
//! private.
//!
//! Verified: the frames that wait, what is reported of them, where those are put that come next, and
//! that what is sent next is; that all places of a ring being full, the next is where it should be.
//! CRIU: restores the mapping, and begins at the first frame.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::net::SocketType;

use super::sockets::{all, bound, packet, send};
use crate::context::until;
use crate::facts::Users;
use crate::inet::place::{set, set_bytes};
use crate::{Context, Scenario};

pub(crate) const SCENARIO: Scenario =
    Scenario::new(module_path!(), run).users(Users::Root).faults();

const PACKET: i32 = 263;
const RX_RING: i32 = 5;
const VERSION: i32 = 10;
const TX_RING: i32 = 13;
const PAGE: usize = 4096;
const FRAME: usize = 2048;
/// Places of a ring.
const PLACES: usize = 4;

/// A ring that is mapped.
struct Ring {
    socket: OwnedFd,
    memory: *mut u8,
    version: i32,
    /// The next place that the program looks at.
    next: usize,
}

impl Ring {
    fn new(version: i32, protocol: u16, (prot, sharing): (ProtFlags, MapFlags)) -> Self {
        let socket = packet(SocketType::DGRAM);
        set(&socket, (PACKET, VERSION), version);
        // struct tpacket_req3: a block is handed over after 20 ms.
        let (block, blocks) = if version == 2 { (PAGE, PLACES) } else { (PAGE, PLACES / 2) };
        let frames = block * blocks / FRAME;
        let request = [block, blocks, FRAME, frames, 20, 0, 0].map(|it| (it as u32).to_ne_bytes());
        let len = if version == 2 { 28 } else { 16 };
        set_bytes(&socket, (PACKET, RX_RING), &request.as_flattened()[..len]);
        // SAFETY: a new mapping, where there is room.
        let memory =
            unsafe { mmap(std::ptr::null_mut(), block * blocks, prot, sharing, &socket, 0) };
        rebind(&socket, protocol);
        Self { socket, memory: memory.expect("mmap").cast(), version, next: 0 }
    }

    fn place(&self, number: usize) -> usize {
        number % PLACES * if self.version == 2 { PAGE } else { FRAME }
    }

    fn number(&self, at: usize) -> u32 {
        // SAFETY: within the mapping, and aligned.
        unsafe { self.memory.add(at).cast::<u32>().read_volatile() }
    }

    fn status(&self, number: usize) -> usize {
        self.place(number) + if self.version == 2 { 8 } else { 0 }
    }

    fn is_there(&self, number: usize) -> bool {
        self.number(self.status(number)) & 1 != 0
    }

    /// The first bytes of what was received first in a place.
    fn bytes(&self, number: usize) -> [u8; 4] {
        let at = self.place(number);
        let (header, network) = match self.version {
            0 => (at, 18),
            1 => (at, 14),
            _ => (at + self.number(at + 16) as usize, 26),
        };
        // SAFETY: within the mapping: a number of 16 bits, and then as many bytes as it takes.
        unsafe {
            let start = self.memory.add(header + network).cast::<u16>().read_volatile();
            self.memory.add(header + usize::from(start)).cast::<[u8; 4]>().read_volatile()
        }
    }

    /// Looks at what comes next, and gives the place back.
    fn take(&mut self) -> [u8; 4] {
        until("a frame", || self.is_there(self.next));
        let bytes = self.bytes(self.next);
        // SAFETY: within the mapping, and aligned.
        unsafe { self.memory.add(self.status(self.next)).cast::<u32>().write_volatile(0) };
        self.next += 1;
        bytes
    }

    fn reports(&self) -> bool {
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).expect("poll");
        polled[0].revents().contains(PollFlags::IN)
    }
}

fn rebind(socket: &OwnedFd, protocol: u16) {
    // SAFETY: all zeros are an address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = 1;
    let len = size_of_val(&address) as u32;
    // SAFETY: `len` bytes are read.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    assert_eq!(result, 0, "bind");
}

/// A ring to send by, and its memory.
fn sending() -> (OwnedFd, *mut u8) {
    let socket = packet(SocketType::DGRAM);
    set(&socket, (PACKET, VERSION), 1);
    let request = [PAGE, PLACES / 2, FRAME, PLACES].map(|it| (it as u32).to_ne_bytes());
    set_bytes(&socket, (PACKET, TX_RING), request.as_flattened());
    let (prot, len) = (ProtFlags::READ | ProtFlags::WRITE, PAGE * PLACES / 2);
    // SAFETY: a new mapping, where there is room.
    let memory = unsafe { mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, &socket, 0) };
    (socket, memory.expect("mmap").cast())
}

/// Writes a frame into a place of it.
fn write(memory: *mut u8, place: usize, bytes: [u8; 4]) {
    // SAFETY: within the mapping (struct tpacket2_hdr: status, length; data behind 32 bytes), and
    // aligned.
    unsafe {
        let frame = memory.add(place % PLACES * FRAME);
        frame.add(32).cast::<[u8; 4]>().write_volatile(bytes);
        frame.add(4).cast::<u32>().write_volatile(4);
        frame.cast::<u32>().write_volatile(1);
    }
}

fn run(cx: &mut Context) {
    let hash = super::sockets::hash(cx);
    // Nobody has protocols like these.
    let [one, other] = [0, 1].map(|bit| 0x9400 | (hash as u16 & 0x1fe) | bit);
    let sender = packet(SocketType::DGRAM);
    let put = |bytes: &[u8; 4]| check!(send(&sender, one, bytes), "sending");
    let both = ProtFlags::READ | ProtFlags::WRITE;
    let mut rings: Vec<_> =
        [0, 1, 2].map(|version| Ring::new(version, one, (both, MapFlags::SHARED))).into();
    let mut full = Ring::new(2, one, (both, MapFlags::SHARED));
    // Blocks are handed over one by one.
    let mut number = 0;
    let mut come = |rings: &[Ring]| {
        number += 1;
        put(&[b'n', b'o', b'.', number]);
        let at = usize::from(number) - 1;
        let all = || rings.iter().chain([&full]).all(|ring| ring.is_there(at));
        until("it everywhere", all);
    };
    for _ in 0..3 {
        come(&rings);
    }
    for ring in &mut rings {
        check_eq!([ring.take(), ring.take()], [*b"no.\x01", *b"no.\x02"], "what came first");
    }
    come(&rings);
    let private = Ring::new(0, other, (both, MapFlags::PRIVATE));
    let (by_ring, memory) = sending();
    let receiver = bound(SocketType::DGRAM, other);
    // It tells how much that was.
    let go = || {
        let _ = send(&by_ring, other, b"");
    };
    write(memory, 0, *b"one.");
    go();
    write(memory, 1, *b"two.");
    until("it to arrive", || private.is_there(0));
    check_eq!(all(&receiver).first(), Some(&b"one.".to_vec()), "what the ring has sent");
    // SAFETY: the second page is the program's own from now on.
    unsafe { private.memory.add(PAGE + 99).write_volatile(7) };
    let before: Vec<_> = rings.iter().map(Ring::reports).collect();

    cx.ready_and_wait();

    check_eq!(rings.iter().map(Ring::reports).collect::<Vec<_>>(), before, "what is reported");
    // SAFETY: within the mapping.
    check_eq!(unsafe { private.memory.add(PAGE + 99).read_volatile() }, 7, "what was written");
    check!(private.is_there(0) && private.bytes(0) == *b"one.", "what waits");
    for ring in &mut rings {
        check_eq!([ring.take(), ring.take()], [*b"no.\x03", *b"no.\x04"], "what has waited");
        check!(!ring.reports(), "nothing more in {}", ring.version);
    }
    let all_waited = [(); 4].map(|()| full.take());
    check_eq!(all_waited, [1, 2, 3, 4].map(|it| [b'n', b'o', b'.', it]), "what filled a ring");
    for _ in 0..2 {
        number += 1;
        put(&[b'n', b'o', b'.', number]);
        check_eq!(full.take(), [b'n', b'o', b'.', number], "what comes behind that");
        for ring in &mut rings {
            check_eq!(ring.take(), [b'n', b'o', b'.', number], "what comes in {}", ring.version);
        }
    }
    // Until all is full, and one more, which is lost.
    for last in [b'a', b'b', b'c', b'd', b'e'] {
        put(&[b'l', b'a', b's', last]);
        if last != b'e' {
            let next = usize::from(last - b'a');
            until("the last", || rings.iter().all(|ring| ring.is_there(ring.next + next)));
        }
    }
    for ring in &mut rings {
        for last in [b'a', b'b', b'c', b'd'] {
            check_eq!(ring.take(), [b'l', b'a', b's', last], "the last in {}", ring.version);
        }
    }
    go();
    until("what was to be sent", || all(&receiver).contains(&b"two.".to_vec()));
    write(memory, 2, *b"tri.");
    go();
    until("what was sent next", || all(&receiver).contains(&b"tri.".to_vec()));
}
