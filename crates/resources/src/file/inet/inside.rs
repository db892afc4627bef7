//! What no system call tells of a socket, out of the kernel's own structures:
//! the interface of `IP_MULTICAST_IF` where it was given by number, and empty
//! datagrams that somebody has looked at before (the kernel shows those once to
//! whoever looks by `SO_PEEK_OFF`); the program that chooses among sockets
//! that share a port; of a TCP socket, whether it still has the port it tells,
//! what waits to be accepted, the error it has to tell, and what was sent out of band.
//!
//! Truth from: `struct inet_sock`, `inet_connection_sock`, `tcp_sock`, `sk_buff`, `sock_reuseport`, by the kernel's type
//! information. Nothing but reading.

mod chooser;
mod connection;
mod datagrams;
mod queue;
mod reports;
mod requests;
mod unaccepted;

pub(super) use chooser::Chooser;
pub(super) use connection::{InnerState, Pending, Urgent};
pub(super) use datagrams::{Headers, Waiting};
pub(super) use queue::voucher;
pub(super) use unaccepted::Unaccepted;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use epoll_interest::kernel_memory::{
    Address, Btf, BtfError, KernelMemory, OpenError, OpenFiles, ReadError,
};

use dormouse_kernel::Errno;

use super::likeness::{ROWS, V6};
use super::listing::make;
use super::options::Kind;
use crate::Result;
use crate::file::likeness::{Alike, Model, Places};
use crate::file::{FileId, Probe, SocketFamily};
use crate::steady::steady;

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
    /// A new socket does not tell the time.
    #[error("a new socket shows no time stamps")]
    Clock(#[source] Errno),
}

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
    handshakes: usize,
    unaccepted: usize,
    next_request: usize,
    request_sock: usize,
    ends: usize,
    ends_v6: usize,
    ports: usize,
    socket_state: usize,
    state: usize,
    error: usize,
    errors: usize,
    notices: usize,
    said: usize,
    said_of: usize,
    said_port: usize,
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
    len_elsewhere: usize,
    data: usize,
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
    let said = btf.structure("sock_exterr_skb")?;
    let tcp = btf.structure("tcp_sock")?;
    let common = btf.structure("sock_common")?;
    let request = btf.structure("request_sock")?;
    let (requests, queue) = btf.structure("inet_connection_sock")?.member("icsk_accept_queue")?;
    Ok(Layout {
        files: OpenFiles::new(btf)?,
        socket_sock: btf.structure("socket")?.offset("sk")?,
        multicast_interface: btf.structure("inet_sock")?.offset("mc_index")?,
        port_holder: btf.structure("inet_connection_sock")?.offset("icsk_bind_hash")?,
        handshakes: requests + queue.offset("qlen")?,
        unaccepted: requests + queue.offset("rskq_accept_head")?,
        next_request: request.offset("dl_next")?,
        request_sock: request.offset("sk")?,
        ends: common.offset("skc_daddr")?,
        ends_v6: common.offset("skc_v6_daddr")?,
        ports: common.offset("skc_dport")?,
        socket_state: btf.structure("socket")?.offset("state")?,
        state: sock.offset("__sk_common")? + common.offset("skc_state")?,
        error: sock.offset("sk_err")?,
        errors: sock.offset("sk_error_queue")?,
        notices: sock.offset("sk_zckey")?,
        said: said.offset("ee")?,
        said_of: said.offset("addr_offset")?,
        said_port: said.offset("port")?,
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
        len_elsewhere: packet.offset("data_len")?,
        data: packet.offset("data")?,
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

impl Layout {
    /// The `struct sock` behind each of some descriptors of this process.
    fn socks(
        &self,
        memory: &mut KernelMemory,
        files: &[BorrowedFd<'_>],
    ) -> Result<Vec<Address>, ReadError> {
        let sockets = self.files.private_data(memory, files)?;
        memory.words_behind(&sockets, self.socket_sock)
    }

    /// The whole of TCP sockets.
    fn bytes(
        &self,
        memory: &mut KernelMemory,
        places: &Places,
        sockets: &[BorrowedFd<'_>],
        is_v6: bool,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let socks = self.socks(memory, sockets)?;
        places.read(memory, &socks, is_v6)
    }
}

/// What reads it.
pub(super) struct Inside {
    memory: KernelMemory,
    layout: Layout,
    places: Places,
    /// Groups of sockets that share a port, by where the kernel has them: they
    /// last as long as a socket is in them.
    groups: BTreeMap<Address, chooser::Group>,
    /// What reads connections that wait to be accepted, since it was asked for.
    queues: Option<queue::Queues>,
}

/// Where options are kept.
fn places(btf: &Btf<'_>) -> Result<Places, BtfError> {
    Places::new(btf, "tcp_sock", ROWS, Some((("inet_sock", "pinet6", 8), V6)))
}

impl Inside {
    pub(super) fn open() -> Result<Self, InsideError> {
        let (memory, (layout, places)) =
            KernelMemory::open(|btf| Ok((layout(btf)?, places(btf)?)))?;
        Ok(Self { memory, layout, places, groups: BTreeMap::new(), queues: None })
    }

    /// Where options are kept.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Which options of connections are those of a new socket.
    pub(super) fn alike(
        &mut self,
        sockets: &[BorrowedFd<'_>],
        model: &Model,
        kind: Kind,
    ) -> Result<Vec<Alike>, InsideError> {
        let Self { memory, layout, places, .. } = self;
        let is_v6 = kind.is_v6();
        let mut bytes = |files: &[BorrowedFd<'_>]| layout.bytes(memory, places, files, is_v6);
        model.try_options(places, || make(kind).ok(), &mut bytes)?;
        let model = bytes(&[model.socket.as_fd()])?;
        let mut alike = Vec::new();
        for sockets in sockets.chunks(SOME) {
            let sockets = bytes(sockets)?;
            alike.extend(sockets.iter().map(|bytes| places.compare(bytes, &model[0])));
        }
        Ok(alike)
    }

    /// The `struct sock` behind each of some descriptors of this process.
    fn socks(&mut self, files: &[BorrowedFd<'_>]) -> Result<Vec<Address>, ReadError> {
        self.layout.socks(&mut self.memory, files)
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

    /// Reads until that gives the same twice: while the program stands still, packets come in.
    fn steady<T: PartialEq>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, ReadError>,
    ) -> Result<T, InsideError> {
        steady(|| read(self))?.ok_or(InsideError::Restless)
    }
}
