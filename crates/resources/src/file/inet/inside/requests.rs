//! Connections that a listener keeps back until something is sent on them
//! (`TCP_DEFER_ACCEPT`): the kernel has but a request of each, in the table of
//! all connections.
//!
//! Truth from: `struct tcp_request_sock`, `inet_request_sock`, `inet_hashinfo`, by
//! the kernel's type information.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use dormouse_kernel::admission::Terms;
use epoll_interest::kernel_memory::{Address, Bits, Btf, BtfError, ReadError};

use super::queue::{TERMS, Why, clock, word};
use super::{Inside, InsideError, MOST};
use crate::file::inet::unaccepted::{Child, Ending};

/// Offsets in bytes.
pub(super) struct Layout {
    /// Of any `struct sock_common`.
    network: usize,
    device: usize,
    state: usize,
    node: usize,
    listener: usize,
    /// Where a `struct net` has the table, and what is in that.
    table: usize,
    buckets: usize,
    mask: usize,
    /// Of a `struct tcp_request_sock`.
    len: usize,
    segment_size: usize,
    peer_clock: usize,
    asked_at: usize,
    answered_at: usize,
    clock_offset: usize,
    has_microseconds: usize,
    /// Since Linux 6.18.
    accurate_notices: Option<usize>,
    /// In it, with the members that follow.
    agreed: usize,
    peer_scale: Bits,
    own_scale: Bits,
    timestamps: Bits,
    sack: Bits,
    scales: Bits,
    ecn: Bits,
}

impl Layout {
    pub(super) fn new(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let common = btf.structure("sock_common")?;
        let (ipv4, of_ipv4) = btf.structure("net")?.member("ipv4")?;
        let (row, of_row) = of_ipv4.member("tcp_death_row")?;
        let table = btf.structure("inet_hashinfo")?;
        let tcp = btf.structure("tcp_request_sock")?;
        let (agreed, inet) = tcp.member("req")?;
        let (request, plain) = inet.member("req")?;
        Ok(Self {
            network: common.offset("skc_net")?,
            device: common.offset("skc_bound_dev_if")?,
            state: common.offset("skc_state")?,
            node: common.offset("skc_nulls_node")?,
            listener: common.offset("skc_listener")?,
            table: ipv4 + row + of_row.offset("hashinfo")?,
            buckets: table.offset("ehash")?,
            mask: table.offset("ehash_mask")?,
            len: tcp.size(),
            segment_size: agreed + request + plain.offset("mss")?,
            peer_clock: agreed + request + plain.offset("ts_recent")?,
            asked_at: tcp.offset("rcv_isn")?,
            answered_at: tcp.offset("snt_isn")?,
            clock_offset: tcp.offset("ts_off")?,
            has_microseconds: tcp.offset("req_usec_ts")?,
            accurate_notices: tcp.offset("accecn_ok").ok(),
            agreed,
            peer_scale: inet.bits("snd_wscale")?,
            own_scale: inet.bits("rcv_wscale")?,
            timestamps: inet.bits("tstamp_ok")?,
            sack: inet.bits("sack_ok")?,
            scales: inet.bits("wscale_ok")?,
            ecn: inet.bits("ecn_ok")?,
        })
    }
}

/// What listeners keep back, by their places among those that were asked about.
pub(in crate::file::inet) type Requests = BTreeMap<usize, Vec<Child>>;

impl Inside {
    /// What some listeners keep back, each with whether it is of IPv6, or why one
    /// of them cannot be kept. Packets of theirs must not come in meanwhile.
    pub(in crate::file::inet) fn requests(
        &mut self,
        listeners: &[(BorrowedFd<'_>, bool)],
    ) -> Result<Result<Requests, &'static str>, InsideError> {
        if listeners.is_empty() {
            return Ok(Ok(Requests::new()));
        }
        self.open_queues()?;
        let clock = clock()?;
        self.steady(|inside| match inside.try_requests(listeners, clock) {
            Ok(requests) => Ok(Ok(requests)),
            Err(Why::Unkept(reason)) => Ok(Err(reason)),
            Err(Why::Read(error)) => Err(error),
        })
    }

    fn try_requests(
        &mut self,
        listeners: &[(BorrowedFd<'_>, bool)],
        clock: u32,
    ) -> Result<Requests, Why> {
        let files: Vec<_> = listeners.iter().map(|(file, _)| *file).collect();
        let socks = self.socks(&files)?;
        let places: BTreeMap<Address, usize> = socks.iter().copied().zip(0..).collect();
        let mut found = Requests::new();
        for (request, listener) in self.all_requests(socks[0])? {
            if let Some(&place) = places.get(&listener) {
                let child = self.request(request, listener, (listeners[place].1, clock))?;
                found.entry(place).or_default().push(child);
            }
        }
        for requests in found.values_mut() {
            requests.sort_by_key(|child| (child.remote, child.local));
        }
        Ok(found)
    }

    /// All requests that the table of a socket's network has, with whom they ask.
    fn all_requests(&mut self, sock: Address) -> Result<Vec<(Address, Address)>, ReadError> {
        // include/net/tcp_states.h.
        const NEW_SYN_RECV: u8 = 12;
        /// In bytes; the kernel makes no more than two million.
        const LARGEST: usize = 8 << 21;
        let at = &self.queues.as_ref().expect("they were opened").requests;
        let (network, table, buckets, mask) = (at.network, at.table, at.buckets, at.mask);
        let (node, state, listener) = (at.node as u64, at.state, at.listener);
        let memory = &mut self.memory;
        let network = memory.word(sock + network as u64)?;
        let table = memory.word(network + table as u64)?;
        let buckets = memory.word(table + buckets as u64)?;
        let len = 8 * (memory.word(table + mask as u64)? as u32 as usize + 1);
        if len > LARGEST {
            return Err(ReadError::Fault);
        }
        let heads = memory.bytes(buckets, len)?;
        let (heads, _) = heads.as_chunks::<8>();
        // The end of each list is odd.
        let is_node = |link: &u64| link & 1 == 0;
        let heads = heads.iter().map(|&head| u64::from_ne_bytes(head));
        let mut links: Vec<Address> = heads.filter(is_node).collect();
        let (mut requests, mut seen) = (Vec::new(), 0);
        while !links.is_empty() {
            seen += links.len();
            if seen > MOST {
                return Err(ReadError::Fault);
            }
            let socks: Vec<_> = links.iter().map(|link| link - node).collect();
            let states = memory.words_behind(&socks, state)?;
            let asking = socks.iter().zip(&states);
            let asking = asking.filter(|(_, state)| **state as u8 == NEW_SYN_RECV);
            requests.extend(asking.map(|(sock, _)| *sock));
            links = memory.words(&links)?.into_iter().filter(is_node).collect();
        }
        let listeners = memory.words_behind(&requests, listener)?;
        Ok(requests.into_iter().zip(listeners).collect())
    }

    fn request(
        &mut self,
        request: Address,
        listener: Address,
        (is_v6, clock): (bool, u32),
    ) -> Result<Child, Why> {
        let at = &self.queues.as_ref().expect("they were opened").requests;
        let device = self.memory.word(listener + at.device as u64)? as u32;
        let bytes = self.memory.bytes(request, at.len)?;
        let agreed = &bytes[at.agreed..];
        let has = |option: Bits| option.of(agreed) != 0;
        let scale = |bits: Bits| bits.of(agreed) as u8;
        if bytes[at.has_microseconds] != 0 || at.accurate_notices.is_some_and(|at| bytes[at] != 0) {
            return Err(Why::Unkept(TERMS));
        }
        if device != 0 {
            return Err(Why::Unkept(
                "TCP connections wait to be accepted until something is sent on them (TCP_DEFER_ACCEPT) by a socket that is bound to a device, and would be lost",
            ));
        }
        let ours = clock.wrapping_add(word(&bytes, at.clock_offset));
        let terms = Terms {
            segment_size: word(&bytes, at.segment_size) as u16,
            scales: has(at.scales).then(|| (scale(at.peer_scale), scale(at.own_scale))),
            sack: has(at.sack),
            ecn: has(at.ecn),
            timestamps: has(at.timestamps).then(|| (word(&bytes, at.peer_clock), ours)),
        };
        let [asked_at, answered_at] = [at.asked_at, at.answered_at].map(|at| word(&bytes, at));
        let (local, remote) = self.ends(request, is_v6)?;
        let child = Child {
            local,
            remote,
            ending: Ending::Open,
            is_deferred: true,
            received_to: asked_at.wrapping_add(1),
            received: Vec::new(),
            sent_to: answered_at.wrapping_add(1),
            window: terms.segment_size.into(),
            terms,
        };
        child.check().map_err(Why::Unkept)?;
        Ok(child)
    }
}
