//! Connections that wait to be accepted, and whose other ends are anywhere.
//!
//! They are read from the kernel's memory (`inside/queue.rs`). At the restore the
//! kernel is had to make each of them out of an acknowledgement in the name of
//! its peer, which is vouched for ([`Admission`]); what was received comes the
//! same way. Whoever is at the other end hears nothing of it, as long as the
//! network is locked.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dormouse_image::ImageName;
use dormouse_image::proto::files::inet::InetUnacceptedEntry;
use dormouse_kernel::Errno;
use dormouse_kernel::admission::{Admission, Terms};
use dormouse_kernel::netfilter::Ends;
use dormouse_kernel::sock_diag::{InetDiag, SockDiag};
use dormouse_kernel::socket::SocketOption;

use super::deferred::keep_back;
use super::inside::voucher;
use super::options::{Kind, TCP};
use super::segment::{self, Segment, Sort};
use super::socket::refuse;
use crate::corrupt::corrupt;
use crate::file::{FileId, ImageSource, Probe, TcpConnections};
use crate::{Error, Result};

/// Why connections that wait to be accepted are not saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unkept {
    NotAskedFor,
    Multipath,
    NoLock,
    /// The kernel cannot be had to make them again.
    Kernel,
    NoCookies,
    Marks,
    /// They have changed since.
    Restless,
    /// One of them is of no kind that can be made again.
    Child(&'static str),
}

impl Unkept {
    fn reason(self) -> (&'static str, &'static str) {
        const LATER: &str = "dump again when the program has accepted them, or have them dropped by \
             --skip-in-flight";
        match self {
            Self::NotAskedFor => (
                "TCP connections wait to be accepted, and saving those was not asked for",
                "use --tcp-established to have them saved, or --skip-in-flight to have them dropped",
            ),
            Self::Multipath => {
                ("MPTCP connections wait to be accepted, and cannot be saved", LATER)
            }
            Self::NoLock => (
                "TCP connections wait to be accepted that come from elsewhere, and nothing holds \
                 up what is sent on them",
                "use --network-lock nftables, or have them dropped by --skip-in-flight",
            ),
            Self::Kernel => (
                "TCP connections wait to be accepted that come from elsewhere, or on which \
                 something was sent, and this kernel cannot make them again (Linux 6.9 with \
                 CONFIG_DEBUG_INFO_BTF can)",
                LATER,
            ),
            Self::NoCookies => (
                "TCP connections wait to be accepted that come from elsewhere, and the kernel \
                 makes none without a handshake while net.ipv4.tcp_syncookies is 0",
                "set net.ipv4.tcp_syncookies to 1, or have them dropped by --skip-in-flight",
            ),
            Self::Marks => (
                "TCP connections wait to be accepted that come from elsewhere, and would get a \
                 mark while net.ipv4.tcp_fwmark_accept is 1",
                LATER,
            ),
            Self::Restless => ("TCP connections wait to be accepted, and others come", LATER),
            Self::Child(reason) => (reason, LATER),
        }
    }

    /// The refusal of a socket that they wait for.
    pub(super) fn refusal(self, probe: &Probe) -> Error {
        let (reason, hint) = self.reason();
        refuse(probe, reason, hint)
    }
}

/// Whether the settings of this network namespace let them be made again.
pub(super) fn check_settings() -> Result<(), Unkept> {
    let setting = |name: &str| {
        std::fs::read(format!("/proc/sys/net/ipv4/{name}")).is_ok_and(|value| value != b"0\n")
    };
    match (setting("tcp_syncookies"), setting("tcp_fwmark_accept")) {
        (false, _) => Err(Unkept::NoCookies),
        (_, true) => Err(Unkept::Marks),
        (true, false) => Ok(()),
    }
}

/// What the peer has said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing of an end.
    Open = 0,
    /// That nothing more comes from it.
    Finished = 1,
    /// That there is no connection any more.
    Reset = 2,
    /// The one, then the other.
    Broken = 3,
}

impl Ending {
    pub(super) fn is_finished(self) -> bool {
        matches!(self, Self::Finished | Self::Broken)
    }

    fn is_reset(self) -> bool {
        matches!(self, Self::Reset | Self::Broken)
    }
}

/// A connection that waits to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) ending: Ending,
    /// Whether it is kept back until something is sent on it.
    pub(super) is_deferred: bool,
    /// The sequence number behind what was received; an end is not counted.
    pub(super) received_to: u32,
    /// All that was received: nobody could read any of it.
    pub(super) received: Vec<u8>,
    /// The sequence number of what this side will send first.
    pub(super) sent_to: u32,
    pub(super) terms: Terms,
    /// What the peer has room for, in bytes.
    pub(super) window: u32,
}

// TCPI_OPT_*.
const TIMESTAMPS: u32 = 1;
const SACK: u32 = 2;
const WSCALE: u32 = 4;
const ECN: u32 = 8;

// include/net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;

/// How much is sent at once, in bytes: with all that the kernel adds it just fits
/// into 64 KiB, so that it takes hardly more room than it counts.
const PIECE: usize = 65_000;
/// How long the kernel may take for a segment that it has.
const PATIENCE: Duration = Duration::from_secs(15);
/// After this time it is taken for dropped.
const ONE_TRY: Duration = Duration::from_millis(20);

impl Child {
    /// Whether the kernel can be had to make it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        const MAX_SCALE: u8 = 14;
        let Self { local, remote, terms, ending, is_deferred, received, .. } = self;
        if *is_deferred && (*ending != Ending::Open || !received.is_empty()) {
            return Err("a connection waits for something to be sent on it, and something was");
        }
        // As `bpf_sk_assign_tcp_reqsk` has it.
        let shortest = match local.ip().to_canonical() {
            IpAddr::V4(_) => 536,
            IpAddr::V6(_) => 1220,
        };
        let is_near = |end: &SocketAddr| match end.ip() {
            IpAddr::V4(_) => false,
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if local.is_ipv4() != remote.is_ipv4() || remote.port() == 0 {
            return Err("a connection that waits to be accepted has ends that none can have");
        }
        if is_near(local) || is_near(remote) {
            return Err("a connection that waits to be accepted is between link-local addresses");
        }
        if terms.segment_size < shortest {
            return Err(
                "the segments of a connection that waits to be accepted are shorter than can be agreed on again",
            );
        }
        if terms.scales.is_some_and(|(theirs, ours)| theirs.max(ours) > MAX_SCALE) {
            return Err(
                "the windows of a connection that waits to be accepted are shifted as none can be",
            );
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> InetUnacceptedEntry {
        let Self {
            local,
            remote,
            ending,
            is_deferred,
            received_to,
            received,
            sent_to,
            terms,
            window,
        } = self;
        let Terms { segment_size, scales, sack, ecn, timestamps } = *terms;
        let agreed = [
            (timestamps.is_some(), TIMESTAMPS),
            (sack, SACK),
            (scales.is_some(), WSCALE),
            (ecn, ECN),
        ];
        let agreed = agreed.into_iter().filter(|(has, _)| *has).map(|(_, option)| option);
        let (peer_timestamp, timestamp) = timestamps.unzip();
        let (snd_wscale, rcv_wscale) = scales.unzip();
        InetUnacceptedEntry {
            src_addr: bytes(local.ip()),
            dst_addr: bytes(remote.ip()),
            dst_port: remote.port().into(),
            ending: *ending as u32,
            inq_seq: *received_to,
            outq_seq: *sent_to,
            opt_mask: agreed.sum(),
            snd_wscale: snd_wscale.map(u32::from),
            rcv_wscale: rcv_wscale.map(u32::from),
            mss_clamp: segment_size.into(),
            timestamp,
            peer_timestamp,
            snd_wnd: *window,
            inq: received.clone(),
            deferred: is_deferred.then_some(true),
        }
    }

    /// One of those that wait for who listens at a port.
    pub(super) fn decode(entry: &InetUnacceptedEntry, port: u16) -> Result<Self, &'static str> {
        let has = |option| entry.opt_mask & option != 0;
        let narrow = |shift: Option<u32>| {
            shift.and_then(|shift| u8::try_from(shift).ok()).ok_or(
                "the windows of a connection that waits to be accepted are shifted as none can be",
            )
        };
        let scales = match has(WSCALE) {
            true => Some((narrow(entry.snd_wscale)?, narrow(entry.rcv_wscale)?)),
            false => None,
        };
        let clocks = entry.peer_timestamp.zip(entry.timestamp);
        let timestamps = has(TIMESTAMPS).then(|| {
            clocks.ok_or("a connection that waits to be accepted has time stamps and no clock")
        });
        let child = Self {
            local: SocketAddr::new(address(&entry.src_addr)?, port),
            remote: SocketAddr::new(
                address(&entry.dst_addr)?,
                u16::try_from(entry.dst_port).map_err(|_| "a port is none")?,
            ),
            ending: match entry.ending {
                0 => Ending::Open,
                1 => Ending::Finished,
                2 => Ending::Reset,
                3 => Ending::Broken,
                _ => return Err("a connection that waits to be accepted has ended in no known way"),
            },
            is_deferred: entry.deferred(),
            received_to: entry.inq_seq,
            received: entry.inq.clone(),
            sent_to: entry.outq_seq,
            terms: Terms {
                segment_size: u16::try_from(entry.mss_clamp)
                    .map_err(|_| "the segments of a connection that waits to be accepted have no possible size")?,
                scales,
                sack: has(SACK),
                ecn: has(ECN),
                timestamps: timestamps.transpose()?,
            },
            window: entry.snd_wnd,
        };
        child.check()?;
        Ok(child)
    }

    pub(super) fn ends(&self) -> Ends {
        Ends { local: self.local, remote: self.remote }
    }

    /// A segment in the name of its peer.
    pub(super) fn segment(&self, sequence: u32, sort: Sort) -> Segment<'static> {
        let scale = self.terms.scales.map_or(0, |(theirs, _)| theirs);
        Segment {
            from: self.remote,
            to: self.local,
            sequence,
            acknowledged: self.sent_to,
            window: u16::try_from(self.window >> scale).unwrap_or(u16::MAX),
            sort,
            options: &[],
            bytes: &[],
            priority: 0,
        }
    }

    /// Has it come in.
    fn come(&self, admission: &Admission, diag: &SockDiag) -> Result<()> {
        let first = self.received_to.wrapping_sub(self.received.len() as u32);
        let segment = self.segment(first, Sort::Plain);
        admission.expect(self.terms).map_err(self.failed("bpf"))?;
        segment::inject(Segment { priority: admission.priority(), ..segment })?;
        self.until(|| {
            Ok(admission.outcome().map_err(self.failed("bpf_sk_assign_tcp_reqsk"))?.is_some())
        })?;
        self.await_change(diag, |it| it.is_some_and(|it| it.state == ESTABLISHED))?;
        self.receive(segment, diag)?;
        if self.ending.is_finished() {
            let sequence = self.received_to;
            segment::inject(Segment { sequence, sort: Sort::Finishes, ..segment })?;
            self.await_change(diag, |it| it.is_some_and(|it| it.state == CLOSE_WAIT))?;
        }
        if self.ending.is_reset() {
            let sequence = self.received_to.wrapping_add(self.ending.is_finished().into());
            segment::inject(Segment { sequence, sort: Sort::Resets, ..segment })?;
            self.await_change(diag, |it| it.is_none())?;
        }
        Ok(())
    }

    /// Has it receive what was received before; `segment` is the first from its peer.
    ///
    /// What reaches beyond the window that the kernel has offered it drops (`tcp_sequence` in
    /// `net/ipv4/tcp_input.c`, Linux 6.17 and later). At first that is 64 KiB, and then more, as soon as
    /// it says so, which it does at once to who sends what it has already.
    fn receive(&self, segment: Segment<'_>, diag: &SockDiag) -> Result<()> {
        let Self { received, .. } = self;
        let part = |from: usize, to: usize| Segment {
            sequence: segment.sequence.wrapping_add(from as u32),
            bytes: &received[from..to],
            ..segment
        };
        let (mut done, mut piece, mut since) = (0, PIECE, Instant::now());
        while done < received.len() {
            if done > 0 {
                segment::inject(part(done - 1, done))?;
            }
            segment::inject(part(done, received.len().min(done + piece)))?;
            let sent = Instant::now();
            let waiting = loop {
                let there = diag.connection(self.local, self.remote)?;
                let waiting = there.map_or(0, |there| there.waiting as usize);
                if waiting > done || sent.elapsed() > ONE_TRY {
                    break waiting;
                }
                sleep(Duration::from_micros(50));
            };
            if waiting > done {
                (done, piece, since) = (waiting, PIECE.min(2 * piece), Instant::now());
            } else if since.elapsed() > PATIENCE {
                return Err(self.failed("the kernel's taking")(Errno::TIMEDOUT));
            } else {
                piece = piece.div_ceil(2);
            }
        }
        Ok(())
    }

    /// Waits until the kernel has taken what was sent.
    fn await_change(
        &self,
        diag: &SockDiag,
        mut is_there: impl FnMut(Option<InetDiag>) -> bool,
    ) -> Result<()> {
        self.until(|| Ok(is_there(diag.connection(self.local, self.remote)?)))
    }

    fn until(&self, mut is_there: impl FnMut() -> Result<bool>) -> Result<()> {
        let since = Instant::now();
        while !is_there()? {
            if since.elapsed() > PATIENCE {
                return Err(self.failed("the kernel's taking")(Errno::TIMEDOUT));
            }
            sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(Errno) -> Error {
        Error::kernel(call, format!("a connection from {} that waits to be accepted", self.remote))
    }
}

/// Those that images say wait for a socket that listens at a port.
pub(super) fn decode_waiting(
    (id, kind, port): (FileId, Kind, u16),
    entries: &[InetUnacceptedEntry],
    images: &ImageSource<'_>,
) -> Result<Vec<Child>> {
    let wrong = |reason| corrupt(ImageName::Files, WAITING, id.as_raw(), reason);
    let decode = |entry| match Child::decode(entry, port) {
        Ok(child) if kind.protocol == TCP && child.local.is_ipv6() == kind.is_v6() => Ok(child),
        Ok(_) => Err(wrong("it is not of the kind of the socket that listens")),
        Err(reason) => Err(wrong(reason)),
    };
    let waiting: Vec<_> = entries.iter().map(decode).collect::<Result<_>>()?;
    match images.tcp() {
        TcpConnections::Keep => Ok(waiting),
        TcpConnections::Close => Ok(Vec::new()),
        TcpConnections::Refuse if waiting.is_empty() => Ok(waiting),
        TcpConnections::Refuse => Err(Error::Unsupported {
            object: WAITING,
            detail: format!("file {id}, port {port}").into(),
            reason: "restoring TCP connections was not asked for",
            hint: "use --tcp-established to have them restored, or --tcp-close to have them dropped",
        }),
    }
}

/// What they are called in errors.
pub(super) const WAITING: &str = "a connection that waits to be accepted";

/// Does something while a listener hands on a receive buffer that has room for so
/// many bytes, unless the program has set its size.
fn with_room<T>(
    listener: BorrowedFd<'_>,
    bytes: usize,
    does: impl FnOnce() -> Result<T>,
) -> Result<T> {
    /// SOCK_RCVBUF_LOCK (include/net/sock.h).
    const LOCKED: i32 = 2;
    let failed = || Error::kernel("SO_RCVBUFFORCE", WAITING);
    let (size, lock) =
        (SocketOption::of_socket(libc::SO_RCVBUF), SocketOption::of_socket(libc::SO_BUF_LOCK));
    let (own, locks) =
        (size.get(listener).map_err(failed())?, lock.get(listener).map_err(failed())?);
    // What is not taken by headers.
    let needed = i32::try_from(bytes / 4 * 5).unwrap_or(i32::MAX);
    if needed <= own || locks & LOCKED != 0 {
        return does();
    }
    let set = |bytes: i32| {
        // The kernel doubles it.
        SocketOption::of_socket(libc::SO_RCVBUFFORCE).set(listener, bytes / 2).map_err(failed())?;
        lock.set(listener, locks).map_err(failed())
    };
    set(needed)?;
    let done = does()?;
    set(own)?;
    Ok(done)
}

/// Has connections come in, one after the other.
pub(super) fn admit(children: &[Child], listener: BorrowedFd<'_>) -> Result<()> {
    let failed = |call| Error::kernel(call, WAITING);
    check_settings().map_err(|unkept| {
        let (reason, hint) = unkept.reason();
        let detail = children.first().map(|child| child.remote.to_string());
        Error::Unsupported {
            object: WAITING,
            detail: detail.unwrap_or_default().into(),
            reason,
            hint,
        }
    })?;
    let (deferred, mut others): (Vec<&Child>, Vec<_>) =
        children.iter().partition(|child| child.is_deferred);
    // Those that cannot be kept back any more come as they would have in the end.
    others.extend(keep_back(&deferred, listener)?);
    if others.is_empty() {
        return Ok(());
    }
    let voucher = voucher().map_err(|error| Error::InetReader(error.into()))?;
    let admission = Admission::open(voucher, listener).map_err(failed("bpf"))?;
    let diag = SockDiag::open()?;
    for child in others {
        with_room(listener, child.received.len(), || child.come(&admission, &diag))?;
    }
    admission.close().map_err(failed("bpf"))
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Result<IpAddr, &'static str> {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(bytes), _) => Ok(bytes.into()),
        (_, Ok(bytes)) => Ok(bytes.into()),
        _ => Err("an address is none"),
    }
}
