//! TCP connections under repair: their state as `TCP_REPAIR` shows and takes it.
//!
//! A socket under repair can be opened and closed without a packet, and its
//! queues can be read. It goes on taking packets that come in. This takes
//! `CAP_NET_ADMIN`.
#![allow(unsafe_code)]

use crate::Errno;
use crate::socket::SocketOption;
use crate::sys::check;
use std::os::fd::{AsFd, AsRawFd};

const fn option(name: i32) -> SocketOption {
    SocketOption::new(libc::IPPROTO_TCP, name)
}

const REPAIR: SocketOption = option(19);
const REPAIR_QUEUE: SocketOption = option(20);
const QUEUE_SEQ: SocketOption = option(21);
const REPAIR_OPTIONS: SocketOption = option(22);
const TIMESTAMP: SocketOption = option(24);
const REPAIR_WINDOW: SocketOption = option(29);

/// Whether a socket is under repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It is from now on; it gets its address whoever else has it.
    On,
    /// It is not any more, and says so to its peer.
    Off,
    /// It is not any more.
    OffSilently,
}

impl Repair {
    /// The value of `TCP_REPAIR`.
    pub(crate) const fn raw(self) -> i32 {
        match self {
            Self::On => 1,
            Self::Off => 0,
            Self::OffSilently => -1,
        }
    }
}

/// Puts a socket under repair, or ends that. Either changes its
/// `SO_REUSEADDR`.
///
/// # Errors
/// `EPERM`: this takes `CAP_NET_ADMIN`, and no socket that listens.
pub fn repair(socket: impl AsFd, repair: Repair) -> Result<(), Errno> {
    REPAIR.set(socket, repair.raw())
}

/// A queue of a socket under repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Neither.
    None,
    /// What was received and not read.
    Receive,
    /// What was sent and not acknowledged, or not sent yet.
    Send,
}

/// Says which queue is meant by what follows.
///
/// # Errors
/// `EPERM`: the socket is not under repair.
pub fn select(socket: impl AsFd, queue: Queue) -> Result<(), Errno> {
    REPAIR_QUEUE.set(socket, queue as i32)
}

/// The sequence number behind the queue that was selected.
///
/// # Errors
/// `EINVAL`: none was.
pub fn sequence(socket: impl AsFd) -> Result<u32, Errno> {
    QUEUE_SEQ.get(socket).map(i32::cast_unsigned)
}

/// Sets it, before the socket is connected.
///
/// # Errors
/// `EPERM`: it is connected already.
pub fn set_sequence(socket: impl AsFd, number: u32) -> Result<(), Errno> {
    QUEUE_SEQ.set(socket, number.cast_signed())
}

/// The clock of its time stamps.
///
/// # Errors
/// What `getsockopt(2)` says.
pub fn timestamp(socket: impl AsFd) -> Result<u32, Errno> {
    TIMESTAMP.get(socket).map(i32::cast_unsigned)
}

/// Sets the clock of its time stamps.
///
/// # Errors
/// `EPERM`: the socket is not under repair.
pub fn set_timestamp(socket: impl AsFd, clock: u32) -> Result<(), Errno> {
    TIMESTAMP.set(socket, clock.cast_signed())
}

/// `struct tcp_repair_window`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Sequence number of the segment that last changed the peer's window.
    pub snd_wl1: u32,
    /// The peer's window, in bytes.
    pub snd_wnd: u32,
    /// The largest it ever was.
    pub max_window: u32,
    /// What this side offers, in bytes.
    pub rcv_wnd: u32,
    /// Up to where it has acknowledged when it offered that.
    pub rcv_wup: u32,
}

/// The windows of both sides.
///
/// # Errors
/// `EPERM`: the socket is not under repair.
pub fn window(socket: impl AsFd) -> Result<Window, Errno> {
    let mut raw = [0; 20];
    if REPAIR_WINDOW.get_into(socket, &mut raw)? != raw.len() {
        return Err(Errno::INVAL);
    }
    let at = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| raw[4 * at + byte]));
    let (snd_wl1, snd_wnd, max_window) = (at(0), at(1), at(2));
    Ok(Window { snd_wl1, snd_wnd, max_window, rcv_wnd: at(3), rcv_wup: at(4) })
}

/// Sets the windows of both sides.
///
/// # Errors
/// `EINVAL`: they contradict the sequence numbers.
pub fn set_window(socket: impl AsFd, window: Window) -> Result<(), Errno> {
    let Window { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = window;
    let raw = [snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup].map(u32::to_ne_bytes);
    REPAIR_WINDOW.set_bytes(socket, raw.as_flattened())
}

/// What two peers agree on when they connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// The longest segment, in bytes.
    SegmentSize(u32),
    /// By how many bits windows are shifted: the peer's, and this side's.
    WindowScale(u32, u32),
    /// Selective acknowledgements.
    Sack,
    /// Time stamps.
    Timestamps,
}

/// Sets it, when the socket was connected under repair.
///
/// # Errors
/// `EPERM`: something was sent already; `EFBIG`: a shift is too large.
pub fn agree(socket: impl AsFd, agreed: &[Agreed]) -> Result<(), Errno> {
    // struct tcp_repair_opt: the numbers of options in segments.
    let raw = agreed.iter().flat_map(|agreed| match *agreed {
        Agreed::SegmentSize(bytes) => [2, bytes],
        Agreed::WindowScale(peer, own) => [3, peer | own << 16],
        Agreed::Sack => [4, 0],
        Agreed::Timestamps => [8, 0],
    });
    let raw: Vec<u8> = raw.flat_map(u32::to_ne_bytes).collect();
    REPAIR_OPTIONS.set_bytes(socket, &raw)
}

/// How much is in the queues, in bytes. One that stands for the end is counted
/// among what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Received and not read.
    pub received: u32,
    /// Sent or to be sent, and not acknowledged.
    pub unacknowledged: u32,
    /// Not sent yet.
    pub unsent: u32,
}

/// `SIOCINQ`: bytes that a socket of any kind has received and nobody has read; of one that keeps
/// packets apart, those of the first.
///
/// # Errors
/// `EINVAL`: the socket listens.
pub fn received(socket: impl AsFd) -> Result<u32, Errno> {
    ask(socket, 0x541b)
}

fn ask(socket: impl AsFd, request: libc::c_ulong) -> Result<u32, Errno> {
    let mut bytes: libc::c_int = 0;
    let raw = socket.as_fd().as_raw_fd();
    // SAFETY: each of the requests of this module writes an int.
    check(unsafe { libc::ioctl(raw, request, &raw mut bytes) }.into())?;
    Ok(bytes.cast_unsigned())
}

/// Says how much is in the queues.
///
/// # Errors
/// `EINVAL`: the socket listens.
pub fn queued(socket: impl AsFd) -> Result<Queued, Errno> {
    let socket = socket.as_fd();
    // SIOCOUTQ, SIOCOUTQNSD.
    let (unacknowledged, unsent) = (ask(socket, 0x5411)?, ask(socket, 0x894b)?);
    let received = received(socket)?;
    Ok(Queued { received, unacknowledged, unsent })
}
