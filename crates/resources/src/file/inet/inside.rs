//! What no system call tells of a socket, out of the kernel's own structures:
//! the interface of `IP_MULTICAST_IF` where it was given by number, and empty
//! datagrams that somebody has looked at before (the kernel shows those once to
//! whoever looks by `SO_PEEK_OFF`); the program that chooses among sockets
//! that share a port; of a TCP socket, whether it still has the port it tells,
//! what waits to be accepted, the error it has to tell, and what was sent out of band.
//!
//! Truth from: `struct inet_sock`, `inet_connection_sock`, `tcp_sock`, `sk_buff`, `sock_reuseport`, by the kernel's type
//! information. Nothing but reading.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, OpenError, OpenFiles, ReadError,
};

use super::likeness::{Alike, Places};
use crate::Result;
use crate::file::{FileId, Probe, SocketFamily};

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// The system does not let it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nothing is where it should be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was never twice the same.
    #[error("what waits in a socket, or who shares a port, never stood still")]
    Restless,
}

/// How often a queue is read until it is twice the same: while the program
/// stands still, packets come in.
const ATTEMPTS: usize = 64;
/// Sockets looked at in one go: each takes a descriptor meanwhile.
const SOME: usize = 256;
/// More datagrams than any queue holds.
const MOST: usize = 1 << 20;

/// Offsets in bytes.
#[derive(Clone, Copy)]
struct Layout {
    files: OpenFiles,
    socket_sock: usize,
    multicast_interface: usize,
    port_holder: usize,
    unaccepted: usize,
    next_request: usize,
    request_sock: usize,
    ends: usize,
    ends_v6: usize,
    ports: usize,
    socket_state: usize,
    state: usize,
    error: usize,
    notices: usize,
    urgent: usize,
    urgent_at: usize,
    read_to: usize,
    received_to: usize,
    urgent_sent: usize,
    acknowledged_to: usize,
    queue: usize,
    write_queue: usize,
    reader_queue: usize,
    len: usize,
    told_interface: usize,
    interface: usize,
    head: usize,
    network_header: usize,
    transport_header: usize,
    group: usize,
    group_len: usize,
    group_program: usize,
    group_members: usize,
    program_original: usize,
    original_len: usize,
    original_code: usize,
}

fn layout(btf: &Btf<'_>) -> Result<Layout, BtfError> {
    let packet = btf.structure("sk_buff")?;
    let group = btf.structure("sock_reuseport")?;
    let original = btf.structure("sock_fprog_kern")?;
    let sock = btf.structure("sock")?;
    let tcp = btf.structure("tcp_sock")?;
    let common = btf.structure("sock_common")?;
    let request = btf.structure("request_sock")?;
    let (requests, queue) = btf.structure("inet_connection_sock")?.member("icsk_accept_queue")?;
    Ok(Layout {
        files: OpenFiles::new(btf)?,
        socket_sock: btf.structure("socket")?.offset("sk")?,
        multicast_interface: btf.structure("inet_sock")?.offset("mc_index")?,
        port_holder: btf.structure("inet_connection_sock")?.offset("icsk_bind_hash")?,
        unaccepted: requests + queue.offset("rskq_accept_head")?,
        next_request: request.offset("dl_next")?,
        request_sock: request.offset("sk")?,
        ends: common.offset("skc_daddr")?,
        ends_v6: common.offset("skc_v6_daddr")?,
        ports: common.offset("skc_dport")?,
        socket_state: btf.structure("socket")?.offset("state")?,
        state: sock.offset("__sk_common")? + common.offset("skc_state")?,
        error: sock.offset("sk_err")?,
        notices: sock.offset("sk_zckey")?,
        urgent: tcp.offset("urg_data")?,
        urgent_at: tcp.offset("urg_seq")?,
        read_to: tcp.offset("copied_seq")?,
        received_to: tcp.offset("rcv_nxt")?,
        urgent_sent: tcp.offset("snd_up")?,
        acknowledged_to: tcp.offset("snd_una")?,
        queue: sock.offset("sk_receive_queue")?,
        write_queue: sock.offset("sk_write_queue")?,
        reader_queue: btf.structure("udp_sock")?.offset("reader_queue")?,
        len: packet.offset("len")?,
        // struct in_pktinfo and inet6_skb_parm begin with the interface as the
        // program is told it.
        told_interface: packet.offset("cb")?,
        interface: packet.offset("skb_iif")?,
        head: packet.offset("head")?,
        network_header: packet.offset("network_header")?,
        transport_header: packet.offset("transport_header")?,
        group: sock.offset("sk_reuseport_cb")?,
        group_len: group.offset("num_socks")?,
        group_program: group.offset("prog")?,
        group_members: group.offset("socks")?,
        program_original: btf.structure("bpf_prog")?.offset("orig_prog")?,
        original_len: original.offset("len")?,
        original_code: original.offset("filter")?,
    })
}

/// A datagram in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Bytes.
    pub(super) len: usize,
    /// The interface it came in by.
    pub(super) interface: u32,
    /// What its headers say; only read of empty ones.
    pub(super) headers: Option<Headers>,
}

/// Headers of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) from: (IpAddr, u16),
    pub(super) to: IpAddr,
    pub(super) ttl: u8,
    pub(super) tos: u8,
}

/// A program that chooses among the sockets that share a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chooser {
    /// As which of them the program knows the socket that was asked for.
    pub(super) place: u32,
    /// Its instructions; `None` if it is eBPF, which the kernel keeps in a form
    /// that cannot be loaded again.
    pub(super) classic: Option<Vec<[u8; 8]>>,
}

/// What a TCP socket has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// The number of the error.
    pub(super) error: u32,
    /// Whether its program was told that it is being connected, and not more.
    pub(super) connecting: bool,
    /// Whether there is no connection any more.
    pub(super) closed: bool,
}

/// What no call tells of an open connection of TCP, or only for its queue up to
/// the byte that was sent out of band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InnerState {
    /// Nothing.
    Plain,
    /// A byte that came out of band waits.
    UrgentUnread,
    /// One was read, and others wait around it.
    UrgentRead,
    /// One was sent, and the peer may not have it yet.
    UrgentUnsent,
    /// It counts what it has sent by `MSG_ZEROCOPY`.
    CountsNotices,
}

/// A connection that waits to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unaccepted {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// Whether nothing has come yet, not even an end.
    pub(super) is_untouched: bool,
}

/// What reads it.
pub(super) struct Inside {
    memory: KernelMemory,
    layout: Layout,
    places: Places,
    /// Groups of sockets that share a port, by where the kernel has them: they
    /// last as long as a socket is in them.
    groups: BTreeMap<Address, Group>,
}

/// Sockets that share a port.
struct Group {
    /// The place of each.
    places: BTreeMap<Address, u32>,
    /// As in [`Chooser`], if a program chooses.
    program: Option<Option<Vec<[u8; 8]>>>,
}

impl Inside {
    pub(super) fn open() -> Result<Self, InsideError> {
        let (memory, (layout, places)) =
            KernelMemory::open(|btf| Ok((layout(btf)?, Places::new(btf)?)))?;
        Ok(Self { memory, layout, places, groups: BTreeMap::new() })
    }

    /// Where options are kept.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Which options of connections are those of a new socket.
    pub(super) fn alike(
        &mut self,
        sockets: &[BorrowedFd<'_>],
        model: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Vec<Alike>, InsideError> {
        let model = self.bytes(&[model], is_v6)?;
        let mut alike = Vec::new();
        for sockets in sockets.chunks(SOME) {
            let sockets = self.bytes(sockets, is_v6)?;
            alike.extend(sockets.iter().map(|bytes| self.places.compare(bytes, &model[0])));
        }
        Ok(alike)
    }

    /// The whole of TCP sockets.
    fn bytes(
        &mut self,
        sockets: &[BorrowedFd<'_>],
        is_v6: bool,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        /// The longest that is read at once.
        const PIECE: usize = 256;
        let Places { len, v6, v6_len, .. } = self.places;
        let socks = self.socks(sockets)?;
        let mut parts = vec![(socks.clone(), len)];
        if is_v6 {
            parts.push((self.memory.words_behind(&socks, v6)?, v6_len));
        }
        let mut all = vec![Vec::new(); sockets.len()];
        for (starts, len) in parts {
            for from in (0..len).step_by(PIECE) {
                let piece = PIECE.min(len - from);
                let at: Vec<_> = starts.iter().map(|start| start + from as u64).collect();
                let bytes = self.memory.read(&at, piece)?;
                for (all, bytes) in all.iter_mut().zip(bytes.chunks_exact(piece)) {
                    all.extend(bytes);
                }
            }
        }
        Ok(all)
    }

    /// The `struct sock` behind each of some descriptors of this process.
    fn socks(&mut self, files: &[BorrowedFd<'_>]) -> Result<Vec<Address>, ReadError> {
        let sockets = self.layout.files.private_data(&mut self.memory, files)?;
        self.memory.words_behind(&sockets, self.layout.socket_sock)
    }

    /// The interfaces that sockets of IPv4 send to groups by; none for those
    /// that leave it to the kernel.
    pub(super) fn multicast_interfaces<'a>(
        &mut self,
        probes: impl Iterator<Item = &'a Probe>,
    ) -> Result<Result<BTreeMap<FileId, u32>, InsideError>> {
        let probes: Vec<_> =
            probes.filter(|probe| probe.socket_family() == Some(SocketFamily::INET)).collect();
        let mut found = BTreeMap::new();
        for probes in probes.chunks(SOME) {
            let files: Vec<OwnedFd> =
                probes.iter().map(|probe| probe.duplicate()).collect::<Result<_>>()?;
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let offset = self.layout.multicast_interface;
            let words =
                self.socks(&files).and_then(|socks| self.memory.words_behind(&socks, offset));
            match words {
                Ok(words) => {
                    let set = probes.iter().zip(words).map(|(probe, word)| (probe.id, word as u32));
                    found.extend(set.filter(|&(_, index)| index != 0));
                }
                Err(error) => return Ok(Err(error.into())),
            }
        }
        Ok(Ok(found))
    }

    /// Whether a TCP socket holds a port: what it tells as its own may be what
    /// its last connection had.
    pub(super) fn holds_port(&mut self, socket: BorrowedFd<'_>) -> Result<bool, InsideError> {
        let sock = self.socks(&[socket])?[0];
        Ok(self.memory.word(sock + self.layout.port_holder as u64)? != 0)
    }

    /// What a TCP socket has to tell.
    pub(super) fn pending(&mut self, socket: BorrowedFd<'_>) -> Result<Pending, InsideError> {
        // enum socket_state, include/uapi/linux/net.h; include/net/tcp_states.h.
        const CONNECTING: u32 = 2;
        const CLOSE: u8 = 7;
        let Layout { socket_sock, socket_state, state, error, .. } = self.layout;
        let socket = self.layout.files.private_data(&mut self.memory, &[socket])?[0];
        let sock = self.memory.word(socket + socket_sock as u64)?;
        Ok(Pending {
            error: self.memory.word(sock + error as u64)? as u32,
            connecting: self.memory.word(socket + socket_state as u64)? as u32 == CONNECTING,
            closed: self.memory.word(sock + state as u64)? as u8 == CLOSE,
        })
    }

    /// What open connections have that no call tells; packets must not come in
    /// meanwhile.
    pub(super) fn inner_states(
        &mut self,
        sockets: &[BorrowedFd<'_>],
    ) -> Result<Vec<InnerState>, InsideError> {
        // TCP_URG_VALID, TCP_URG_READ: include/net/tcp.h.
        const VALID: u16 = 0x100;
        const READ: u16 = 0x400;
        let Layout { notices, urgent, urgent_at, read_to, received_to, .. } = self.layout;
        let Layout { urgent_sent, acknowledged_to, .. } = self.layout;
        let socks = self.socks(sockets)?;
        let mut fields = Vec::new();
        for offset in
            [notices, urgent_sent, acknowledged_to, urgent, urgent_at, read_to, received_to]
        {
            fields.push(self.memory.words_behind(&socks, offset)?);
        }
        let judge = |index: usize| {
            let [notices, urgent_sent, acknowledged_to, urgent, urgent_at, read_to, received_to] =
                std::array::from_fn(|field| fields[field][index] as u32);
            let urgent = urgent as u16;
            // It was read and nothing else is there: that it was, is all that
            // would be told.
            let alone = read_to == urgent_at && received_to == urgent_at.wrapping_add(1);
            if notices != 0 {
                InnerState::CountsNotices
            } else if urgent_sent != acknowledged_to {
                InnerState::UrgentUnsent
            } else if urgent & VALID != 0 {
                InnerState::UrgentUnread
            } else if urgent & READ != 0 && !alone {
                InnerState::UrgentRead
            } else {
                InnerState::Plain
            }
        };
        Ok((0..socks.len()).map(judge).collect())
    }

    /// Whether a datagram waits in the socket for the program to complete it.
    pub(super) fn holds_back(&mut self, socket: BorrowedFd<'_>) -> Result<bool, InsideError> {
        let queue = self.socks(&[socket])?[0] + self.layout.write_queue as u64;
        // Without packets, the queue leads back to itself.
        Ok(self.memory.word(queue)? != queue)
    }

    /// The program that chooses among the sockets that share a socket's port.
    pub(super) fn chooser(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<Option<Chooser>, InsideError> {
        for _ in 0..ATTEMPTS {
            match self.try_chooser(socket) {
                Err(ReadError::Fault) => {}
                read => return Ok(read?),
            }
        }
        Err(InsideError::Restless)
    }

    fn try_chooser(&mut self, socket: BorrowedFd<'_>) -> Result<Option<Chooser>, ReadError> {
        let sock = self.socks(&[socket])?[0];
        let group = self.memory.word(sock + self.layout.group as u64)?;
        if group == 0 {
            return Ok(None);
        }
        if !self.groups.contains_key(&group) {
            let read = self.group(group)?;
            self.groups.insert(group, read);
        }
        let Group { places, program } = &self.groups[&group];
        // One that is not bound yet is of a group of its own.
        let place = places.get(&sock).copied().unwrap_or(0);
        Ok(program.clone().map(|classic| Chooser { place, classic }))
    }

    /// Reads who shares a port.
    fn group(&mut self, group: Address) -> Result<Group, ReadError> {
        let Layout { group_len, group_program, group_members, .. } = self.layout;
        let Layout { program_original, original_len, original_code, .. } = self.layout;
        let program = self.memory.word(group + group_program as u64)?;
        if program == 0 {
            return Ok(Group { places: BTreeMap::new(), program: None });
        }
        let members = self.memory.word(group + group_len as u64)? as u16;
        let members = self.memory.words(&row(group + group_members as u64, members))?;
        let original = self.memory.word(program + program_original as u64)?;
        let mut classic = None;
        if original != 0 {
            let len = self.memory.word(original + original_len as u64)? as u16;
            let code = self.memory.word(original + original_code as u64)?;
            classic = Some(self.memory.read(&row(code, len), 8)?.as_chunks::<8>().0.to_vec());
        }
        Ok(Group { places: members.into_iter().zip(0..).collect(), program: Some(classic) })
    }

    /// The datagrams that wait in a UDP socket, first to be read first.
    pub(super) fn waiting(
        &mut self,
        socket: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Vec<Waiting>, InsideError> {
        self.steady(|inside| inside.try_waiting(socket, is_v6))
    }

    /// The connections that wait to be accepted, first to be accepted first.
    pub(super) fn unaccepted(
        &mut self,
        listener: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Vec<Unaccepted>, InsideError> {
        self.steady(|inside| inside.try_unaccepted(listener, is_v6))
    }

    fn try_unaccepted(
        &mut self,
        listener: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Vec<Unaccepted>, ReadError> {
        const ESTABLISHED: u8 = 1;
        let Layout { unaccepted, next_request, request_sock, state, .. } = self.layout;
        let Layout { read_to, received_to, .. } = self.layout;
        let listener = self.socks(&[listener])?[0];
        let mut found = Vec::new();
        let mut request = self.memory.word(listener + unaccepted as u64)?;
        while request != 0 {
            if found.len() >= MOST {
                return Err(ReadError::Fault);
            }
            let sock = self.memory.word(request + request_sock as u64)?;
            let (local, remote) = self.ends(sock, is_v6)?;
            let state = self.memory.word(sock + state as u64)? as u8;
            let [read_to, received_to] = [read_to, received_to].map(|at| sock + at as u64);
            let unread = self.memory.word(read_to)? as u32 != self.memory.word(received_to)? as u32;
            let is_untouched = state == ESTABLISHED && !unread;
            found.push(Unaccepted { local, remote, is_untouched });
            request = self.memory.word(request + next_request as u64)?;
        }
        Ok(found)
    }

    /// The addresses of both ends of a connection: this one first.
    fn ends(&mut self, sock: Address, is_v6: bool) -> Result<(SocketAddr, SocketAddr), ReadError> {
        let Layout { ends, ends_v6, ports, .. } = self.layout;
        let at = sock + ports as u64;
        let [a, b, c, d] = (self.memory.word(at)? as u32).to_ne_bytes();
        // The peer's port is in the order of the network, the other is not.
        let (remote, local) = (u16::from_be_bytes([a, b]), u16::from_ne_bytes([c, d]));
        let len = if is_v6 { 16 } else { 4 };
        let bytes =
            self.memory.read(&[sock + if is_v6 { ends_v6 } else { ends } as u64], 2 * len)?;
        let address = |bytes: &[u8]| match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes))
        {
            (Ok(bytes), _) => Ok(IpAddr::from(bytes)),
            (_, Ok(bytes)) => Ok(IpAddr::from(bytes)),
            _ => Err(ReadError::Fault),
        };
        let (remote_ip, local_ip) = (address(&bytes[..len])?, address(&bytes[len..])?);
        Ok((SocketAddr::new(local_ip, local), SocketAddr::new(remote_ip, remote)))
    }

    /// Reads until that gives the same twice.
    fn steady<T: PartialEq>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, ReadError>,
    ) -> Result<T, InsideError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match read(self) {
                Ok(now) if last.as_ref() == Some(&now) => return Ok(now),
                Ok(now) => last = Some(now),
                Err(ReadError::Fault) => last = None,
                Err(error) => return Err(error.into()),
            }
        }
        Err(InsideError::Restless)
    }

    fn try_waiting(
        &mut self,
        socket: BorrowedFd<'_>,
        is_v6: bool,
    ) -> Result<Vec<Waiting>, ReadError> {
        let Layout { queue, reader_queue, len, told_interface, interface, .. } = self.layout;
        let sock = self.socks(&[socket])?[0];
        let mut found = Vec::new();
        // The kernel moves all from one to the other when the other is empty.
        for queue in [sock + reader_queue as u64, sock + queue as u64] {
            // Each begins with the next; the last leads back.
            let mut packet = self.memory.word(queue)?;
            while packet != queue {
                if found.len() >= MOST {
                    return Err(ReadError::Fault);
                }
                let len = self.memory.word(packet + len as u64)? as u32 as usize;
                let headers = if len == 0 { Some(self.headers(packet, is_v6)?) } else { None };
                let told = self.memory.word(packet + told_interface as u64)? as u32;
                let interface = match told {
                    0 => self.memory.word(packet + interface as u64)? as u32,
                    told => told,
                };
                found.push(Waiting { len, interface, headers });
                packet = self.memory.word(packet)?;
            }
        }
        Ok(found)
    }

    fn headers(&mut self, packet: Address, is_v6: bool) -> Result<Headers, ReadError> {
        let Layout { head, network_header, transport_header, .. } = self.layout;
        let head = self.memory.word(packet + head as u64)?;
        let place = |memory: &mut KernelMemory, at: usize| {
            memory.word(packet + at as u64).map(|word| head + u64::from(word as u16))
        };
        let network = place(&mut self.memory, network_header)?;
        let transport = place(&mut self.memory, transport_header)?;
        let ip = self.memory.read(&[network], 40)?;
        let udp = self.memory.read(&[transport], 8)?;
        let port = u16::from_be_bytes([udp[0], udp[1]]);
        let v4 = |at: usize| IpAddr::from(Ipv4Addr::from([0, 1, 2, 3].map(|byte| ip[at + byte])));
        let v6 = |at: usize| {
            let bytes: [u8; 16] = std::array::from_fn(|byte| ip[at + byte]);
            IpAddr::from(Ipv6Addr::from(bytes))
        };
        Ok(if is_v6 && ip[0] >> 4 == 6 {
            let tos = ip[0] << 4 | ip[1] >> 4;
            Headers { from: (v6(8), port), to: v6(24), ttl: ip[7], tos }
        } else {
            Headers { from: (v4(12), port), to: v4(16), ttl: ip[8], tos: ip[1] }
        })
    }
}

/// Where so many words are, one after the other.
fn row(first: Address, len: u16) -> Vec<Address> {
    (0..u64::from(len)).map(|index| first + 8 * index).collect()
}
