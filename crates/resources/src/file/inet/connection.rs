//! An open TCP connection: sequence numbers, queues, windows, and what both
//! sides agreed on.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use dormouse_image::proto::files::inet::TcpStreamEntry;
use dormouse_image::{ImageDir, ImageName};
use dormouse_kernel::Errno;
use dormouse_kernel::socket::{PeekOffset, SocketOption};
use dormouse_kernel::tcp::{self, Agreed, Queue, Queued, Repair, Window};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{RecvFlags, SendFlags, Shutdown, bind, connect, recv, send, shutdown};

use super::ended::await_event;
use super::inside::{InnerState, Urgent};
use super::options::TCP;
use super::segment::{self, Segment, Sort};
use crate::file::taken::once_free;
use crate::file::{FileId, ImageSink};
use crate::{Error, Result};

/// A state of `include/net/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TcpState {
    Established = 1,
    SynSent = 2,
    FinWait1 = 4,
    FinWait2 = 5,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Closing = 11,
}

impl TcpState {
    pub(super) fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Established,
            2 => Self::SynSent,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            11 => Self::Closing,
            _ => return None,
        })
    }

    /// Whether this side has said that nothing more comes from it.
    fn has_finished(self) -> bool {
        !matches!(self, Self::Established | Self::SynSent | Self::CloseWait)
    }

    /// Whether the peer has acknowledged that.
    fn is_acknowledged(self) -> bool {
        matches!(self, Self::FinWait2 | Self::Close)
    }

    /// Whether the peer has said that nothing more comes from it.
    fn is_finished(self) -> bool {
        matches!(self, Self::CloseWait | Self::LastAck | Self::Closing | Self::Close)
    }
}

/// A connection. Numbers are those of CRIU's image: the ends of both sides are
/// counted in the sequence numbers, and not in the queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) state: TcpState,
    pub(super) remote: SocketAddr,
    /// Behind the receive queue.
    received_to: u32,
    received: Vec<u8>,
    /// Behind the send queue.
    sent_to: u32,
    sent: Vec<u8>,
    /// How much of the send queue was never sent.
    unsent: usize,
    /// `TCPI_OPT_*`.
    agreed: u32,
    /// The peer's and this side's.
    scales: (u32, u32),
    segment_size: u32,
    timestamp: Option<u32>,
    window: Option<Window>,
    /// The byte out of band in what was received: which it is, and whether it was read.
    urgent: Option<(u32, bool)>,
    /// How much of the send queue there is up to a byte that is sent out of band: it is the last.
    urgent_sent: Option<u32>,
    /// The place of its other end among those that wait to be accepted in the
    /// tree, if it does: then it is one that is being made.
    pub(super) place: Option<u32>,
}

const TIMESTAMPS: u32 = 1;
const SACK: u32 = 2;
const WSCALE: u32 = 4;

/// The largest shift of a window (RFC 7323).
const MAX_SCALE: u32 = 14;

const SEGMENT: SocketOption = SocketOption::new(TCP, libc::TCP_MAXSEG);
/// What it takes (`TCP_MIN_MSS`, `MAX_TCP_WINDOW`).
const MIN_SEGMENT: i32 = 88;
const MAX_SEGMENT: i32 = 32_767;

/// The kernel takes what is received in pieces that are made at once.
const PIECE: usize = 16 << 10;

fn kernel(call: &'static str) -> impl FnOnce(Errno) -> Error {
    Error::kernel(call, "TCP connection")
}

/// The beginning of a `struct tcp_info`: state, options, and both shifts.
fn info(socket: BorrowedFd<'_>) -> Result<(u32, u32, (u32, u32))> {
    let mut info = [0; 8];
    SocketOption::new(TCP, libc::TCP_INFO)
        .get_into(socket, &mut info)
        .map_err(kernel("TCP_INFO"))?;
    let scales = u32::from(info[6]);
    Ok((info[0].into(), info[5].into(), (scales & 15, scales >> 4)))
}

/// What is in a queue of a socket under repair, and the number behind it.
fn peek(socket: BorrowedFd<'_>, queue: Queue, len: u32) -> Result<(Vec<u8>, u32)> {
    tcp::select(socket, queue).map_err(kernel("TCP_REPAIR_QUEUE"))?;
    let behind = tcp::sequence(socket).map_err(kernel("TCP_QUEUE_SEQ"))?;
    Ok((look(socket, len)?, behind))
}

/// What a socket has received and its program has not read.
pub(super) fn unread(socket: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let Queued { received, .. } = tcp::queued(socket).map_err(kernel("SIOCINQ"))?;
    look(socket, received)
}

/// Looks at what is in a queue.
fn look(socket: BorrowedFd<'_>, len: u32) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    if len == 0 {
        return Ok(bytes);
    }
    // Whoever looks with an offset set looks from there on, and moves it.
    let offset = match SocketOption::of_socket(libc::SO_PEEK_OFF).get(socket) {
        Ok(offset) if offset >= 0 => Some(PeekOffset::of(socket).map_err(kernel("SO_PEEK_OFF"))?),
        _ => None,
    };
    if let Some(offset) = &offset {
        offset.set(0).map_err(kernel("SO_PEEK_OFF"))?;
    }
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (filled, _) = recv(socket, &mut bytes[..], flags).map_err(kernel("recv"))?;
    if filled != bytes.len() {
        return Err(missing());
    }
    Ok(bytes)
}

/// Looks at what is before and behind a byte that came out of band, and at the byte itself.
fn look_around(socket: BorrowedFd<'_>, urgent: Urgent, finished: bool) -> Result<Vec<u8>> {
    let Urgent { before, all, read } = urgent;
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let inline = SocketOption::of_socket(libc::SO_OOBINLINE).get(socket);
    let inline = inline.map_err(kernel("SO_OOBINLINE"))? != 0;
    let mut bytes = vec![0; all.saturating_sub(finished.into()) as usize];
    let (before, rest) = bytes.split_at_mut_checked(before as usize).ok_or_else(missing)?;
    let (byte, _) = rest.split_first_mut().ok_or_else(missing)?;
    if !inline && !read {
        let (len, _) = recv(socket, std::slice::from_mut(byte), flags | RecvFlags::OOB)
            .map_err(kernel("recv"))?;
        if len != 1 {
            return Err(missing());
        }
    }
    let offset = PeekOffset::of(socket).map_err(kernel("SO_PEEK_OFF"))?;
    let behind = if inline { &mut rest[..] } else { &mut rest[1..] };
    // Whoever reads stops before it, and then goes on behind it.
    let mark = before.len();
    for (at, bytes) in [(0, before), (mark, behind)] {
        if !bytes.is_empty() {
            offset.set(at).map_err(kernel("SO_PEEK_OFF"))?;
            let len = bytes.len();
            let (filled, _) = recv(socket, bytes, flags).map_err(kernel("recv"))?;
            if filled != len {
                return Err(missing());
            }
        }
    }
    Ok(bytes)
}

fn missing() -> Error {
    kernel("recv")(Errno::NODATA)
}

/// Puts bytes into the receive queue of a connection, and says what sequence numbers
/// both sides have reached then.
pub(super) fn enqueue(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<(u32, u32)> {
    let reached = |queue| {
        tcp::select(socket, queue).map_err(kernel("TCP_REPAIR_QUEUE"))?;
        tcp::sequence(socket).map_err(kernel("TCP_QUEUE_SEQ"))
    };
    let reuse = SocketOption::of_socket(libc::SO_REUSEADDR);
    let own = reuse.get(socket).map_err(kernel("SO_REUSEADDR"))?;
    tcp::repair(socket, Repair::On).map_err(kernel("TCP_REPAIR"))?;
    let sent_to = reached(Queue::Send)?;
    tcp::select(socket, Queue::Receive).map_err(kernel("TCP_REPAIR_QUEUE"))?;
    send_all(socket, bytes)?;
    let received_to = reached(Queue::Receive)?;
    tcp::select(socket, Queue::None).map_err(kernel("TCP_REPAIR_QUEUE"))?;
    tcp::repair(socket, Repair::OffSilently).map_err(kernel("TCP_REPAIR"))?;
    reuse.set(socket, own).map_err(kernel("SO_REUSEADDR"))?;
    Ok((received_to, sent_to))
}

impl Connection {
    /// Reads a socket under repair; `None` if its connection has ended, and
    /// nothing is left to be read.
    pub(super) fn read(
        (socket, remote): (BorrowedFd<'_>, SocketAddr),
        inner: &InnerState,
    ) -> Result<Option<Self>> {
        let (state, agreed, scales) = info(socket)?;
        let state = TcpState::from_raw(state).ok_or_else(|| kernel("TCP_INFO")(Errno::INVAL))?;
        let Queued { received, mut unacknowledged, mut unsent } =
            tcp::queued(socket).map_err(kernel("SIOCOUTQ"))?;
        if state == TcpState::Close {
            if received == 0 {
                return Ok(None);
            }
            // Nobody will ever have it.
            (unacknowledged, unsent) = (0, 0);
        } else if state.has_finished() {
            unacknowledged = unacknowledged.saturating_sub(1);
            unsent = unsent.saturating_sub(1);
        }
        if state == TcpState::SynSent {
            (unacknowledged, unsent) = (0, 0);
        }
        let get = |name| SocketOption::new(TCP, name).get(socket).map(i32::cast_unsigned);
        let segment_size = get(libc::TCP_MAXSEG).map_err(kernel("TCP_MAXSEG"))?;
        let timestamp = (agreed & TIMESTAMPS != 0).then(|| tcp::timestamp(socket));
        let timestamp = timestamp.transpose().map_err(kernel("TCP_TIMESTAMP"))?;
        let window = tcp::window(socket).map_err(kernel("TCP_REPAIR_WINDOW"))?;
        let (received, received_to) = match inner.urgent {
            None => peek(socket, Queue::Receive, received)?,
            Some(urgent) => {
                let (_, behind) = peek(socket, Queue::Receive, 0)?;
                (look_around(socket, urgent, state.is_finished())?, behind)
            }
        };
        let (sent, sent_to) = peek(socket, Queue::Send, unacknowledged)?;
        tcp::select(socket, Queue::None).map_err(kernel("TCP_REPAIR_QUEUE"))?;
        Ok(Some(Self {
            state,
            remote,
            received_to,
            received,
            sent_to,
            unsent: sent.len().min(unsent as usize),
            sent,
            agreed,
            scales,
            segment_size,
            timestamp,
            window: Some(window),
            urgent: inner.urgent.map(|urgent| (urgent.before, urgent.read)),
            urgent_sent: inner.urgent_sent.filter(|&len| len > 0 && len <= unacknowledged),
            place: None,
        }))
    }

    /// The same as one that is to be made anew, so that it waits to be accepted
    /// again; `None` if that makes a difference.
    pub(super) fn unaccepted(self, place: u32) -> Option<Self> {
        let is_plain =
            self.state == TcpState::Established && self.received.is_empty() && self.sent.is_empty();
        is_plain.then_some(Self { state: TcpState::SynSent, place: Some(place), ..self })
    }

    /// Writes the image of its own.
    pub(super) fn encode(&self, inode: u32, images: &mut ImageSink<'_>) -> Result<()> {
        let Self {
            state: _,
            remote: _,
            received_to,
            received,
            sent_to,
            sent,
            unsent,
            agreed,
            scales,
            segment_size,
            timestamp,
            window,
            urgent,
            urgent_sent,
            place: _,
        } = self;
        let len = |bytes: usize| u32::try_from(bytes).expect("the kernel counts in 32 bits");
        let scaled = agreed & WSCALE != 0;
        let entry = TcpStreamEntry {
            inq_len: len(received.len()),
            inq_seq: *received_to,
            outq_len: len(sent.len()),
            outq_seq: *sent_to,
            opt_mask: *agreed,
            snd_wscale: if scaled { scales.0 } else { 0 },
            mss_clamp: *segment_size,
            rcv_wscale: scaled.then_some(scales.1),
            timestamp: *timestamp,
            cork: None,
            nodelay: None,
            unsq_len: Some(len(*unsent)),
            snd_wl1: window.map(|window| window.snd_wl1),
            snd_wnd: window.map(|window| window.snd_wnd),
            max_window: window.map(|window| window.max_window),
            rcv_wnd: window.map(|window| window.rcv_wnd),
            rcv_wup: window.map(|window| window.rcv_wup),
            urgent: urgent.map(|(at, _)| at),
            urgent_read: urgent.map(|(_, read)| read),
            urgent_sent: *urgent_sent,
        };
        let mut image = images.dump().writer(ImageName::TcpStream(inode))?;
        image.put(&entry)?;
        image.put_payload(received)?;
        image.put_payload(sent)?;
        Ok(image.finish()?)
    }

    /// Reads the image of a connection, and judges it.
    pub(super) fn decode(
        dir: &ImageDir,
        (id, inode): (FileId, u32),
        (state, remote): (TcpState, SocketAddr),
    ) -> Result<Self> {
        let image = ImageName::TcpStream(inode);
        let wrong = |reason| Error::Corrupt {
            image,
            object: "TCP connection",
            id: id.as_raw().into(),
            reason,
        };
        let mut reader = dir.reader(image)?.ok_or_else(|| wrong("it is missing"))?;
        let entry: TcpStreamEntry = reader.need_message()?;
        let received = reader.payload(entry.inq_len.into())?;
        let sent = reader.payload(entry.outq_len.into())?;
        reader.end()?;
        let unsent = entry.unsq_len.ok_or_else(|| wrong("it does not tell what was sent"))?;
        let unsent = unsent as usize;
        if unsent > sent.len() {
            return Err(wrong("more was not sent than there is"));
        }
        let scaled = entry.opt_mask & WSCALE != 0;
        let scales = (entry.snd_wscale, entry.rcv_wscale.unwrap_or(0));
        if scaled && (entry.rcv_wscale.is_none() || scales.0.max(scales.1) > MAX_SCALE) {
            return Err(wrong("its windows are shifted as none can be"));
        }
        if !(1..=u16::MAX.into()).contains(&entry.mss_clamp) {
            return Err(wrong("its segments have no possible size"));
        }
        if entry.opt_mask & TIMESTAMPS != 0 && entry.timestamp.is_none() {
            return Err(wrong("it has time stamps and no clock"));
        }
        let window = entry.snd_wnd.map(|snd_wnd| Window {
            snd_wl1: entry.snd_wl1.unwrap_or_default(),
            snd_wnd,
            max_window: entry.max_window.unwrap_or_default(),
            rcv_wnd: entry.rcv_wnd.unwrap_or_default(),
            rcv_wup: entry.rcv_wup.unwrap_or_default(),
        });
        if let Some(window) = window
            && !is_possible(window, entry.inq_seq)
        {
            return Err(wrong("its window contradicts its sequence numbers"));
        }
        if entry.urgent.is_some_and(|at| at >= entry.inq_len) {
            return Err(wrong("the byte out of band is not in its queue"));
        }
        if entry.urgent_sent.is_some_and(|len| len == 0 || len > entry.outq_len) {
            return Err(wrong("the byte that is sent out of band is not in its queue"));
        }
        Ok(Self {
            state,
            remote,
            received_to: entry.inq_seq,
            received,
            sent_to: entry.outq_seq,
            sent,
            unsent,
            agreed: entry.opt_mask,
            scales,
            segment_size: entry.mss_clamp,
            timestamp: entry.timestamp,
            window,
            urgent: entry.urgent.map(|at| (at, entry.urgent_read.unwrap_or(false))),
            urgent_sent: entry.urgent_sent,
            place: None,
        })
    }

    /// What it has in place of unsent bytes: where this side has finished, all
    /// counts as sent, for the end comes behind it.
    fn unsent(&self) -> &[u8] {
        if self.state.has_finished() { &[] } else { &self.sent[self.sent.len() - self.unsent..] }
    }

    fn transmitted(&self) -> &[u8] {
        &self.sent[..self.sent.len() - self.unsent().len()]
    }

    /// Sequence numbers without those that stand for the ends.
    fn numbers(&self) -> (u32, u32) {
        let received = self.received_to.wrapping_sub(self.state.is_finished().into());
        let sent = self.sent_to.wrapping_sub(self.state.has_finished().into());
        (received, sent)
    }

    /// Opens it on a new socket, which is under repair from then on. Whoever
    /// is at the other end hears nothing.
    pub(super) fn open(&self, socket: BorrowedFd<'_>, local: SocketAddr) -> Result<()> {
        tcp::repair(socket, Repair::On).map_err(kernel("TCP_REPAIR"))?;
        once_free(Errno::ADDRINUSE, || bind(socket, &local))
            .map_err(Error::kernel("bind", local.to_string()))?;
        let (received, sent) = self.numbers();
        let syn = u32::from(self.state == TcpState::SynSent);
        for (queue, behind, len) in
            [(Queue::Receive, received, self.received.len()), (Queue::Send, sent, self.sent.len())]
        {
            let before = if queue == Queue::Send { syn } else { 0 };
            let number = behind.wrapping_sub(len as u32).wrapping_sub(before);
            tcp::select(socket, queue).map_err(kernel("TCP_REPAIR_QUEUE"))?;
            tcp::set_sequence(socket, number).map_err(kernel("TCP_QUEUE_SEQ"))?;
        }
        tcp::select(socket, Queue::None).map_err(kernel("TCP_REPAIR_QUEUE"))?;
        if self.state == TcpState::SynSent {
            return Ok(());
        }
        let ends = || format!("{local} to {}", self.remote);
        let is_v6 = self.remote.ip().to_canonical().is_ipv6();
        if is_v6 {
            let bytes = self.segment_size.cast_signed().clamp(MIN_SEGMENT, MAX_SEGMENT);
            SEGMENT.set(socket, bytes).map_err(kernel("TCP_MAXSEG"))?;
        }
        // That is what a connection answers which is there.
        once_free(Errno::ADDRNOTAVAIL, || connect(socket, &self.remote))
            .map_err(Error::kernel("connect", ends()))?;
        if is_v6 {
            SEGMENT.set(socket, 0).map_err(kernel("TCP_MAXSEG"))?;
        }
        self.agree(socket)
    }

    /// Has segments be as long as was agreed on. The kernel reckons how long when it connects, and
    /// knows of no agreement then: 536 bytes (IPv4) or 1220. It does again when options of IP
    /// are set (`do_ip_setsockopt` in `net/ipv4/ip_sockglue.c`); for IPv6 it does not, so `open`
    /// limits them while it connects.
    fn lengthen(&self, socket: BorrowedFd<'_>) -> Result<()> {
        if self.remote.ip().to_canonical().is_ipv6() {
            return Ok(());
        }
        let options = SocketOption::new(libc::IPPROTO_IP, libc::IP_OPTIONS);
        let mut value = [0; 40];
        let len = options.get_into(socket, &mut value).map_err(kernel("IP_OPTIONS"))?;
        options.set_bytes(socket, &value[..len.min(40)]).map_err(kernel("IP_OPTIONS"))
    }

    /// Makes it in earnest, with a listener of the tree; it is under repair then.
    pub(super) fn call(&self, socket: BorrowedFd<'_>, local: SocketAddr) -> Result<()> {
        tcp::repair(socket, Repair::On).map_err(kernel("TCP_REPAIR"))?;
        once_free(Errno::ADDRINUSE, || bind(socket, &local))
            .map_err(Error::kernel("bind", local.to_string()))?;
        tcp::repair(socket, Repair::OffSilently).map_err(kernel("TCP_REPAIR"))?;
        ask(socket, self.remote)?;
        await_event(socket, PollFlags::OUT)?;
        // It tells that it is connected.
        ask(socket, self.remote)?;
        tcp::repair(socket, Repair::On).map_err(kernel("TCP_REPAIR"))
    }

    fn agree(&self, socket: BorrowedFd<'_>) -> Result<()> {
        let has = |option| self.agreed & option != 0;
        let (peer, own) = self.scales;
        let agreed: Vec<_> = [
            has(SACK).then_some(Agreed::Sack),
            has(WSCALE).then_some(Agreed::WindowScale(peer, own)),
            has(TIMESTAMPS).then_some(Agreed::Timestamps),
            Some(Agreed::SegmentSize(self.segment_size)),
        ]
        .into_iter()
        .flatten()
        .collect();
        tcp::agree(socket, &agreed).map_err(kernel("TCP_REPAIR_OPTIONS"))?;
        if let Some(clock) = self.timestamp.filter(|_| has(TIMESTAMPS)) {
            tcp::set_timestamp(socket, clock).map_err(kernel("TCP_TIMESTAMP"))?;
        }
        Ok(())
    }

    /// Fills its queues, which must have room.
    pub(super) fn fill(&self, socket: BorrowedFd<'_>) -> Result<()> {
        if self.state == TcpState::SynSent {
            return Ok(());
        }
        tcp::select(socket, Queue::Receive).map_err(kernel("TCP_REPAIR_QUEUE"))?;
        // The rest comes when all connections are open, for the kernel will acknowledge it.
        let end = self.urgent.map_or(self.received.len(), |(at, _)| at as usize);
        send_all(socket, &self.received[..end])?;
        tcp::select(socket, Queue::Send).map_err(kernel("TCP_REPAIR_QUEUE"))?;
        let (urgent, rest) = self.split_urgent(self.transmitted(), 0);
        send_urgent(socket, urgent)?;
        send_all(socket, rest)?;
        tcp::select(socket, Queue::None).map_err(kernel("TCP_REPAIR_QUEUE"))?;
        if self.urgent.is_none() {
            self.set_window(socket)?;
        }
        self.lengthen(socket)
    }

    fn set_window(&self, socket: BorrowedFd<'_>) -> Result<()> {
        if let Some(mut window) = self.window {
            if self.state.is_finished() {
                window.rcv_wup = window.rcv_wup.wrapping_sub(1);
                window.rcv_wnd = window.rcv_wnd.wrapping_add(1);
            }
            tcp::set_window(socket, window).map_err(kernel("TCP_REPAIR_WINDOW"))?;
        }
        Ok(())
    }

    /// What of some of the send queue, which begins there in it, is up to the byte that is sent out of
    /// band, and the rest.
    fn split_urgent<'a>(&self, bytes: &'a [u8], start: usize) -> (&'a [u8], &'a [u8]) {
        let end = self.urgent_sent.map_or(0, |len| (len as usize).saturating_sub(start));
        bytes.split_at(if end <= bytes.len() { end } else { 0 })
    }

    /// Has the byte out of band come, if there is one, and what is behind it.
    fn receive_urgent(&self, socket: BorrowedFd<'_>, local: SocketAddr) -> Result<()> {
        let Some((at, read)) = self.urgent else { return Ok(()) };
        let (byte, behind) = self.received[at as usize..].split_first().expect("it was judged");
        let (received, sent) = self.numbers();
        let first = received.wrapping_sub(self.received.len() as u32);
        let sequence = first.wrapping_add(at);
        // There has to be room for it.
        let mut window = tcp::window(socket).map_err(kernel("TCP_REPAIR_WINDOW"))?;
        (window.rcv_wup, window.rcv_wnd) = (sequence, u16::MAX.into());
        window.snd_wl1 = sequence;
        tcp::set_window(socket, window).map_err(kernel("TCP_REPAIR_WINDOW"))?;
        let inline = SocketOption::of_socket(libc::SO_OOBINLINE);
        let own = inline.get(socket).map_err(kernel("SO_OOBINLINE"))?;
        inline.set(socket, 0).map_err(kernel("SO_OOBINLINE"))?;
        segment::inject(Segment {
            from: self.remote,
            to: local,
            sequence,
            acknowledged: sent.wrapping_sub(self.sent.len() as u32),
            window: u16::MAX,
            sort: Sort::Urgent { pointer: if points_at_it() { 0 } else { 1 } },
            options: &[],
            bytes: std::slice::from_ref(byte),
            priority: 0,
        })?;
        await_event(socket, PollFlags::PRI)?;
        if read {
            recv(socket, &mut [0][..], RecvFlags::OOB).map_err(kernel("recv"))?;
        }
        inline.set(socket, own).map_err(kernel("SO_OOBINLINE"))?;
        tcp::select(socket, Queue::Receive).map_err(kernel("TCP_REPAIR_QUEUE"))?;
        send_all(socket, behind)?;
        tcp::select(socket, Queue::None).map_err(kernel("TCP_REPAIR_QUEUE"))?;
        self.set_window(socket)
    }

    /// Has it come to its state: its own end as one that was sent, and what the
    /// peer has sent from here, in its name.
    pub(super) fn finish(&self, socket: BorrowedFd<'_>, local: SocketAddr) -> Result<()> {
        use TcpState as S;
        self.receive_urgent(socket, local)?;
        let finish = || {
            tcp::select(socket, Queue::Send).map_err(kernel("TCP_REPAIR_QUEUE"))?;
            shutdown(socket, Shutdown::Write).map_err(kernel("shutdown"))?;
            tcp::select(socket, Queue::None).map_err(kernel("TCP_REPAIR_QUEUE"))
        };
        let (received, sent) = self.numbers();
        let window = self.window.map_or(0, |window| window.rcv_wnd);
        let segment = Segment {
            from: self.remote,
            to: local,
            sequence: received,
            acknowledged: sent.wrapping_sub(self.sent.len() as u32),
            window: u16::try_from(window).unwrap_or(u16::MAX),
            sort: Sort::Plain,
            options: &[],
            bytes: &[],
            priority: 0,
        };
        if matches!(self.state, S::FinWait1 | S::FinWait2 | S::Closing) {
            finish()?;
        }
        if self.state.is_finished() {
            segment::inject(Segment { sort: Sort::Finishes, ..segment })?;
        }
        if matches!(self.state, S::LastAck | S::Close) {
            finish()?;
        }
        if self.state.is_acknowledged() {
            let sequence = received.wrapping_add(self.state.is_finished().into());
            let acknowledged = self.sent_to;
            segment::inject(Segment { sequence, acknowledged, ..segment })?;
        }
        Ok(())
    }

    /// Has the kernel tell those who watch a full connection once there is room:
    /// it does for those that somebody has found full.
    pub(super) fn await_room(&self, socket: BorrowedFd<'_>) -> Result<()> {
        if self.sent.is_empty() {
            return Ok(());
        }
        let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
        poll(&mut polled, Some(&Timespec::default())).map(drop).map_err(kernel("poll"))
    }

    /// Whether it is one that has asked, and was not answered.
    pub(super) fn asks(&self) -> bool {
        self.state == TcpState::SynSent && self.place.is_none()
    }

    /// Sends what was to be sent and was not, or asks for the connection. The
    /// socket stays under repair. `widen` makes room if there is too little, for
    /// bytes may take more here than they did.
    pub(super) fn go_on(
        &self,
        socket: BorrowedFd<'_>,
        widen: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let asks = self.asks();
        if !asks && self.unsent().is_empty() {
            return Ok(());
        }
        tcp::repair(socket, Repair::OffSilently).map_err(kernel("TCP_REPAIR"))?;
        if asks {
            ask(socket, self.remote)?;
        } else {
            let (urgent, rest) = self.split_urgent(self.unsent(), self.transmitted().len());
            if !urgent.is_empty() {
                widen()?;
                send_urgent(socket, urgent)?;
            }
            let sent = send_some(socket, rest)?;
            if sent < rest.len() {
                widen()?;
                send_all(socket, &rest[sent..])?;
            }
        }
        tcp::repair(socket, Repair::On).map_err(kernel("TCP_REPAIR"))
    }
}

/// Asks for a connection, without waiting for it.
pub(super) fn ask(socket: BorrowedFd<'_>, remote: SocketAddr) -> Result<()> {
    let flags = fcntl_getfl(socket).map_err(kernel("F_GETFL"))?;
    fcntl_setfl(socket, flags | OFlags::NONBLOCK).map_err(kernel("F_SETFL"))?;
    match connect(socket, &remote) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::ISCONN) => {}
        Err(source) => return Err(Error::kernel("connect", remote.to_string())(source)),
    }
    fcntl_setfl(socket, flags).map_err(kernel("F_SETFL"))
}

/// What the kernel asks of a window (`tcp_repair_set_window` in
/// `net/ipv4/tcp.c`).
fn is_possible(window: Window, received_to: u32) -> bool {
    let after = |one: u32, other: u32| one.wrapping_sub(other).cast_signed() > 0;
    window.max_window >= window.snd_wnd
        && !after(window.snd_wl1, received_to.wrapping_add(window.rcv_wnd))
        && !after(window.rcv_wup, received_to)
}

/// Sends as many bytes as there is room for, and says how many.
fn send_some(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let mut sent = 0;
    while sent < bytes.len() {
        let piece = &bytes[sent..bytes.len().min(sent + PIECE)];
        match send(socket.as_fd(), piece, flags) {
            Ok(taken) => sent += taken,
            Err(Errno::AGAIN) => break,
            Err(source) => return Err(kernel("send")(source)),
        }
    }
    Ok(sent)
}

/// Sends bytes of which the last is to be out of band.
fn send_urgent(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    let Some((last, before)) = bytes.split_last() else { return Ok(()) };
    send_all(socket, before)?;
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::OOB;
    send(socket, &[*last], flags).map(drop).map_err(kernel("send"))
}

/// Whether what says where a byte out of band is says so of the byte itself, and not of the one
/// behind it (`tcp_stdurg`).
fn points_at_it() -> bool {
    std::fs::read("/proc/sys/net/ipv4/tcp_stdurg").is_ok_and(|value| value != b"0\n")
}

fn send_all(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    match send_some(socket, bytes)? {
        sent if sent == bytes.len() => Ok(()),
        _ => Err(kernel("send")(Errno::AGAIN)),
    }
}
