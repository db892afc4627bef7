//! Connections that wait to be accepted, whole: they have no descriptor yet,
//! and can be asked for nothing.
//!
//! Truth from: `struct tcp_sock`, `tcp_options_received`, `sk_buff`,
//! `skb_shared_info`, by the kernel's type information.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use dormouse_kernel::admission::{Terms, Voucher};
use dormouse_kernel::socket::SocketOption;
use dormouse_kernel::tcp;
use epoll_interest::kernel_memory::{
    Address, Bits, Btf, BtfError, OpenError, ReadError, TypeInformation,
};

use super::{Inside, InsideError, MOST, requests};
use crate::file::inet::listing::make;
use crate::file::inet::options::{Kind, TCP};
use crate::file::inet::unaccepted::{Child, Ending};
use crate::file::kernel_packets::{KernelPackets, Unread};

/// Offsets in bytes, of a `struct tcp_sock` if nothing else is said.
struct Layout {
    state: usize,
    error: usize,
    flags: usize,
    locks: usize,
    read_to: usize,
    received_to: usize,
    acknowledged_to: usize,
    written_to: usize,
    peer_window: usize,
    urgent: usize,
    clock_offset: usize,
    congestion_notices: usize,
    has_microseconds: Bits,
    /// In it, with the members of its own that follow.
    agreed: usize,
    timestamps: Bits,
    scales: Bits,
    sack: Bits,
    peer_scale: Bits,
    own_scale: Bits,
    peer_clock: usize,
    segment_size: usize,
    /// Of a `struct sk_buff`.
    control: usize,
}

impl Layout {
    fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let tcp = btf.structure("tcp_sock")?;
        let (sock, common) = (btf.structure("sock")?, btf.structure("sock_common")?);
        let (agreed, options) = tcp.member("rx_opt")?;
        let common_at = sock.offset("__sk_common")?;
        Ok(Self {
            state: common_at + common.offset("skc_state")?,
            flags: common_at + common.offset("skc_flags")?,
            error: sock.offset("sk_err")?,
            locks: sock.offset("sk_userlocks")?,
            read_to: tcp.offset("copied_seq")?,
            received_to: tcp.offset("rcv_nxt")?,
            acknowledged_to: tcp.offset("snd_una")?,
            written_to: tcp.offset("write_seq")?,
            peer_window: tcp.offset("snd_wnd")?,
            urgent: tcp.offset("urg_data")?,
            clock_offset: tcp.offset("tsoffset")?,
            congestion_notices: tcp.offset("ecn_flags")?,
            has_microseconds: tcp.bits("tcp_usec_ts")?,
            agreed,
            timestamps: options.bits("tstamp_ok")?,
            scales: options.bits("wscale_ok")?,
            sack: options.bits("sack_ok")?,
            peer_scale: options.bits("snd_wscale")?,
            own_scale: options.bits("rcv_wscale")?,
            peer_clock: options.offset("ts_recent")?,
            segment_size: options.offset("mss_clamp")?,
            control: btf.structure("sk_buff")?.offset("cb")?,
        })
    }
}

/// What it takes to read them.
pub(super) struct Queues {
    packets: KernelPackets,
    layout: Layout,
    /// What has the kernel vouch for a connection.
    voucher: Voucher,
    pub(super) requests: requests::Layout,
}

impl Queues {
    fn open() -> Result<Self, OpenError> {
        let (packets, (layout, voucher, requests)) = KernelPackets::open(|btf| {
            Ok((Layout::new(btf)?, voucher_of(btf)?, requests::Layout::new(btf)?))
        })?;
        Ok(Self { packets, layout, voucher, requests })
    }
}

fn voucher_of(btf: &Btf<'_>) -> Result<Voucher, BtfError> {
    btf.function("bpf_sk_assign_tcp_reqsk").map(Voucher)
}

/// What has the kernel vouch for a connection.
pub(in crate::file::inet) fn voucher() -> Result<Voucher, OpenError> {
    let types = TypeInformation::open().map_err(OpenError::TypeInformation)?;
    Ok(voucher_of(&types.parse()?)?)
}

/// What a new socket's clock shows, which all others are offset to.
pub(super) fn clock() -> Result<u32, InsideError> {
    let kind = Kind { family: libc::AF_INET, kind: libc::SOCK_STREAM, protocol: TCP };
    make(kind).and_then(tcp::timestamp).map_err(InsideError::Clock)
}

/// Why some connections cannot be made again.
pub(super) const TERMS: &str = "a TCP connection waits to be accepted with terms that cannot be set (time stamps in microseconds, accurate ECN)";

/// Why a connection was not read.
pub(super) enum Why {
    Read(ReadError),
    /// It cannot be kept.
    Unkept(&'static str),
}

impl From<ReadError> for Why {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<Unread> for Why {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Read(error) => Self::Read(error),
            Unread::Device => Self::Unkept(
                "what was received by a TCP connection that waits to be accepted is in the memory of a device",
            ),
            Unread::Nowhere => Self::Unkept(
                "what was received by a TCP connection that waits to be accepted is where this kernel's memory cannot be read",
            ),
        }
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

fn address(bytes: &[u8], at: usize) -> Address {
    u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

impl Inside {
    /// Whether such connections can be kept at all.
    ///
    /// # Errors
    /// The kernel has no way to make them again, or its structures are not known.
    pub(in crate::file::inet) fn open_queues(&mut self) -> Result<Voucher, OpenError> {
        let queues = match &self.queues {
            Some(queues) => queues,
            None => self.queues.insert(Queues::open()?),
        };
        Ok(queues.voucher)
    }

    /// The connections that wait for a listener to accept them, the first to be
    /// accepted first, or why one cannot be kept. Packets of theirs must not
    /// come in meanwhile.
    pub(in crate::file::inet) fn children(
        &mut self,
        listener: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Result<Vec<Child>, &'static str>, InsideError> {
        self.open_queues()?;
        let clock = clock()?;
        self.steady(|inside| match inside.try_children(listener, (is_v6, clock)) {
            Ok(children) => Ok(Ok(children)),
            Err(Why::Unkept(reason)) => Ok(Err(reason)),
            Err(Why::Read(error)) => Err(error),
        })
    }

    fn try_children(
        &mut self,
        listener: BorrowedFd<'_>,
        (is_v6, clock): (bool, u32),
    ) -> Result<Vec<Child>, Why> {
        let socks = self.waiting_socks(listener)?;
        let whole = self.places.read(&mut self.memory, &socks, is_v6)?;
        let model = self.socks(&[listener])?;
        let model = self.places.read(&mut self.memory, &model, is_v6)?.remove(0);
        let mut children = Vec::new();
        for (&sock, bytes) in socks.iter().zip(&whole) {
            let ends = self.waiting_ends(listener, sock, is_v6)?;
            children.push(self.child((sock, ends), bytes, clock)?);
            if !self.is_like(bytes, &model) {
                return Err(Why::Unkept(
                    "a TCP connection waits to be accepted with options that are not those of the socket that listens, and cannot be set",
                ));
            }
        }
        Ok(children)
    }

    /// Whether a connection has the options that its listener would hand on to
    /// it now.
    fn is_like(&self, child: &[u8], listener: &[u8]) -> bool {
        // SOCK_DONE, SOCK_ZAPPED, SOCK_USE_WRITE_QUEUE, SOCK_FASYNC, SOCK_RCU_FREE
        // (include/net/sock.h), which are no options.
        const STATE: u64 = 1 << 1 | 1 << 8 | 1 << 9 | 1 << 16 | 1 << 23;
        // SOCK_SNDBUF_LOCK and SOCK_RCVBUF_LOCK (include/net/sock.h).
        const LOCKS: u8 = 3;
        let Queues { layout: at, .. } = self.queues.as_ref().expect("they were opened");
        let mut child = child.to_vec();
        let flags = address(&child, at.flags) & !STATE | address(listener, at.flags) & STATE;
        child[at.flags..at.flags + 8].copy_from_slice(&flags.to_ne_bytes());
        let locks = child[at.locks] & LOCKS;
        child[at.locks] = locks | listener[at.locks] & !LOCKS;
        // Room that was not asked for follows what comes.
        let is_own = |option: SocketOption| match (option.level, option.name) {
            (libc::SOL_SOCKET, libc::SO_SNDBUF) => locks & 1 == 0,
            (libc::SOL_SOCKET, libc::SO_RCVBUF) => locks & 2 == 0,
            (level, name) => (level, name) == (TCP, libc::TCP_DEFER_ACCEPT),
        };
        self.places.differing(&child, listener).all(is_own)
    }

    fn child(
        &mut self,
        (sock, (local, remote)): (Address, (SocketAddr, SocketAddr)),
        bytes: &[u8],
        clock: u32,
    ) -> Result<Child, Why> {
        // include/net/tcp_states.h.
        const ESTABLISHED: u8 = 1;
        const CLOSE: u8 = 7;
        const CLOSE_WAIT: u8 = 8;
        const RESET: u32 = libc::ECONNRESET.cast_unsigned();
        const BROKEN: u32 = libc::EPIPE.cast_unsigned();
        // TCP_URG_VALID; TCP_ECN_OK, and TCP_ECN_MODE_ACCECN of Linux 6.18.
        const URGENT: u32 = 0x100;
        const NOTICES: u8 = 1;
        const ACCURATE: u8 = 16;
        let Queues { layout: at, .. } = self.queues.as_ref().expect("they were opened");
        let ending = match (bytes[at.state], word(bytes, at.error)) {
            (ESTABLISHED, 0) => Ending::Open,
            (CLOSE_WAIT, 0) => Ending::Finished,
            (CLOSE, RESET) => Ending::Reset,
            (CLOSE, BROKEN) => Ending::Broken,
            _ => {
                return Err(Why::Unkept(
                    "a TCP connection waits to be accepted that has failed, and cannot be had to fail again",
                ));
            }
        };
        let agreed = &bytes[at.agreed..];
        let has = |option: Bits| option.of(agreed) != 0;
        let timestamps = has(at.timestamps).then(|| {
            let ours = clock.wrapping_add(word(bytes, at.clock_offset));
            (word(agreed, at.peer_clock), ours)
        });
        let scale = |bits: Bits| bits.of(agreed) as u8;
        let terms = Terms {
            segment_size: word(agreed, at.segment_size) as u16,
            scales: has(at.scales).then(|| (scale(at.peer_scale), scale(at.own_scale))),
            sack: has(at.sack),
            ecn: bytes[at.congestion_notices] & NOTICES != 0,
            timestamps,
        };
        let [read_to, behind] = [at.read_to, at.received_to].map(|at| word(bytes, at));
        let received_to = behind.wrapping_sub(ending.is_finished().into());
        let sent_to = word(bytes, at.acknowledged_to);
        if word(bytes, at.written_to) != sent_to {
            return Err(Why::Unkept(
                "a TCP connection waits to be accepted on which this side has sent something, and cannot be saved",
            ));
        }
        if word(bytes, at.urgent) & URGENT != 0 {
            return Err(Why::Unkept(
                "a byte out of band (MSG_OOB) waits in a TCP connection that waits to be accepted, and would be lost",
            ));
        }
        if at.has_microseconds.of(bytes) != 0 || bytes[at.congestion_notices] & ACCURATE != 0 {
            return Err(Why::Unkept(TERMS));
        }
        let window = word(bytes, at.peer_window);
        let len = received_to.wrapping_sub(read_to) as usize;
        let received = self.received(sock, (read_to, len))?;
        let child = Child {
            local,
            remote,
            ending,
            is_deferred: false,
            received_to,
            received,
            sent_to,
            terms,
            window,
        };
        child.check().map_err(Why::Unkept)?;
        Ok(child)
    }

    /// The bytes that wait to be read, from a sequence number on.
    fn received(&mut self, sock: Address, (from, len): (u32, usize)) -> Result<Vec<u8>, Why> {
        let queue = sock + self.layout.queue as u64;
        let mut received = Vec::new();
        // Without packets, the queue leads back to itself.
        for packet in self.memory.links(queue, MOST)? {
            let Queues { packets, layout, .. } = self.queues.as_mut().expect("they were opened");
            let bytes = packets.contents(&mut self.memory, packet)?;
            // struct tcp_skb_cb begins with it.
            let number = self.memory.word(packet + layout.control as u64)? as u32;
            let next = from.wrapping_add(received.len() as u32);
            let again = next.wrapping_sub(number) as usize;
            received.extend_from_slice(bytes.get(again..).unwrap_or_default());
        }
        // Something came in meanwhile.
        if received.len() == len { Ok(received) } else { Err(ReadError::Fault.into()) }
    }
}
