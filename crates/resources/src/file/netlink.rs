//! Netlink sockets.
//!
//! Kernel object: `struct netlink_sock`: protocol, port, groups, peer, switches.
//! Truth from: `getsockopt(2)`, `getsockname(2)` and `getpeername(2)` on a
//! duplicate; whether it is connected, by `sock_diag`, listed once.
//! Image: `netlink_sk_entry`. Type and switches are in fields of our own.
//! Create: `socket(2)`.
//! Fill: armed: bound, connected, made a member of its groups; from then on it
//! gets what the kernel has to say.
//! Not preserved: what subsystems keep of a port beyond groups (filters of
//! dropped packets and the like); with which privileges it was opened.
//! Refused: messages that wait, for who sent them cannot be set; an answer that
//! is half given; an error to be told; audit with a port, and queues and logs of netfilter,
//! which the kernel keeps by port; other network namespaces.
//! Scenarios: `scenarios/src/netlink`.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_image::ImageName;
use dormouse_image::proto::files::netlink::NetlinkSkEntry;
use dormouse_image::proto::files::{FdType, FileEntry};
use dormouse_kernel::Errno;
use dormouse_kernel::sock_diag::{NetlinkDiag, SockDiag};
use dormouse_kernel::socket::SocketOption;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, SocketAddrAny, SocketFlags, SocketType, bind, connect, getpeername,
    getsockname, socket_with,
};

use super::home_network::HomeNetwork;
use super::listed::Listed;
use super::socket_options::SocketOptions;
use super::{
    CollectCx, CreateCx, Created, FileId, FileKind, FillCx, FillRank, ImageSink, ImageSource,
    Inode, Probe, SocketFamily, Stage, Status,
};
use crate::corrupt::corrupt;
use crate::{Error, Result};

/// A netlink socket.
#[derive(Debug)]
pub struct Netlink {
    status: Status,
    inode: u32,
    /// `SOCK_RAW` or `SOCK_DGRAM`.
    kind: i32,
    /// `NETLINK_*`.
    protocol: i32,
    port: u32,
    /// Groups it is a member of: bits, the lowest is group 1.
    groups: Vec<u32>,
    /// Port and group (or zero) of whom it talks to.
    peer: Option<(u32, u32)>,
    options: SocketOptions,
    /// Which are on, by their place in [`SWITCHES`].
    switches: Vec<usize>,
}

const SOL_NETLINK: i32 = 270;

const fn option(name: i32) -> SocketOption {
    SocketOption::new(SOL_NETLINK, name)
}

// include/uapi/linux/netlink.h.
const ADD_MEMBERSHIP: i32 = 1;
const LIST_MEMBERSHIPS: i32 = 9;
/// `NETLINK_PKTINFO`, `NETLINK_BROADCAST_ERROR`, `NETLINK_NO_ENOBUFS`,
/// `NETLINK_LISTEN_ALL_NSID`, `NETLINK_CAP_ACK`, `NETLINK_EXT_ACK`,
/// `NETLINK_GET_STRICT_CHK`.
const SWITCHES: [i32; 7] = [3, 4, 5, 8, 10, 11, 12];
const AUDIT: i32 = 9;
const NETFILTER: i32 = 12;
/// `MAX_LINKS`.
const PROTOCOLS: u32 = 32;
/// More words of groups than any protocol has.
const MAX_GROUPS: usize = 1 << 10;

fn kernel(call: &'static str) -> impl FnOnce(Errno) -> Error {
    Error::kernel(call, Netlink::NAME)
}

/// State that cannot be carried over, if there is some: why, and what can be
/// done.
fn problem(
    socket: BorrowedFd<'_>,
    protocol: i32,
    port: u32,
    answering: bool,
) -> Result<Option<(&'static str, &'static str)>> {
    // The audit daemon made itself known to the kernel by a message, which took
    // a port. Others, such as D-Bus, open a socket and may never use it.
    if protocol == AUDIT && port != 0 {
        return Ok(Some((
            "the kernel may send the audit log to it, and keeps that by itself",
            "stop the audit daemon first",
        )));
    }
    if protocol == NETFILTER && port != 0 && has_queue(port) {
        return Ok(Some((
            "packets are queued or logged to it (nfnetlink), which cannot be read in full",
            "dump the program while it is not bound to a queue",
        )));
    }
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).map_err(kernel("poll"))?;
    let ready = polled[0].revents();
    Ok(if ready.contains(PollFlags::ERR) {
        Some(("it has an error to tell, which cannot be put back", "let the program read it"))
    } else if ready.contains(PollFlags::IN) {
        Some((
            "messages wait to be read, and would be lost",
            "dump again when the program has read them",
        ))
    } else if answering {
        Some(("it is in the middle of an answer", "dump again when the program has read it"))
    } else {
        None
    })
}

/// Whether a queue or log of netfilter goes to a port: the second number of a
/// line in either table.
fn has_queue(port: u32) -> bool {
    let goes_there = |line: &str| {
        line.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()) == Some(port)
    };
    ["nfnetlink_queue", "nfnetlink_log"].iter().any(|name| {
        // Without the module there is no table, and no queue.
        let table = fs::read_to_string(format!("/proc/thread-self/net/netfilter/{name}"));
        table.is_ok_and(|table| table.lines().any(goes_there))
    })
}

/// The groups a socket is a member of.
fn memberships(socket: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut value = vec![0; 64];
    loop {
        // The kernel tells how many bytes there are.
        let len = option(LIST_MEMBERSHIPS)
            .get_into(socket, &mut value)
            .map_err(kernel("NETLINK_LIST_MEMBERSHIPS"))?;
        if len > value.len() {
            value.resize(len, 0);
            continue;
        }
        let (words, _) = value[..len].as_chunks::<4>();
        let mut groups: Vec<_> = words.iter().map(|&word| u32::from_ne_bytes(word)).collect();
        while groups.last() == Some(&0) {
            groups.pop();
        }
        return Ok(groups);
    }
}

/// Port and groups.
fn address(any: SocketAddrAny) -> Result<(u32, u32)> {
    let address = SocketAddrNetlink::try_from(any).map_err(kernel("getsockname"))?;
    Ok((address.pid(), address.groups()))
}

fn is_known(kind: i32, protocol: u32) -> bool {
    [libc::SOCK_RAW, libc::SOCK_DGRAM].contains(&kind) && protocol < PROTOCOLS
}

impl FileKind for Netlink {
    const NAME: &'static str = "netlink socket";
    const TYPE: FdType = FdType::NetlinkSk;
    const RANKS: &'static [FillRank] = &[FillRank::Arm];

    fn claims(probe: &Probe) -> bool {
        probe.socket_family() == Some(SocketFamily::NETLINK)
    }

    fn collect(cx: &CollectCx<'_>, probe: &Probe) -> Result<Self> {
        let status = Status::collect(cx, probe)?;
        let socket = probe.duplicate()?;
        let socket = socket.as_fd();
        cx.part::<HomeNetwork>().check(socket, probe)?;
        let get = |name| SocketOption::of_socket(name).get(socket).map_err(kernel("getsockopt"));
        let (kind, protocol) = (get(libc::SO_TYPE)?, get(libc::SO_PROTOCOL)?);
        let (port, _) = address(getsockname(socket).map_err(kernel("getsockname"))?)?;
        // The kernel's numbers of socket inodes have 32 bits (get_next_ino).
        let inode = probe.stat.st_ino as u32;
        let listed =
            cx.part::<Listed<NetlinkDiag>>().of(inode, SockDiag::netlink, |listed| listed.inode)?;
        let answering = listed.is_some_and(|listed| listed.answering);
        if let Some((reason, hint)) = problem(socket, protocol, port, answering)? {
            return Err(Error::Unsupported {
                object: "a netlink socket",
                detail: probe.link.clone().into(),
                reason,
                hint,
            });
        }
        let peer = match listed.is_some_and(|listed| listed.connected) {
            false => None,
            true => {
                let peer = getpeername(socket).map_err(kernel("getpeername"))?;
                let Some(peer) = peer else { return Err(kernel("getpeername")(Errno::NOTCONN)) };
                let (port, group) = address(peer)?;
                Some((port, group.checked_ilog2().map_or(0, |bit| bit + 1)))
            }
        };
        let mut switches = Vec::new();
        for (place, name) in SWITCHES.into_iter().enumerate() {
            match option(name).get(socket) {
                Ok(0) | Err(Errno::NOPROTOOPT) => {}
                Ok(_) => switches.push(place),
                Err(source) => return Err(kernel("getsockopt")(source)),
            }
        }
        Ok(Self {
            status,
            inode,
            kind,
            protocol,
            port,
            groups: memberships(socket)?,
            peer,
            options: SocketOptions::collect(socket)?,
            switches,
        })
    }

    fn encode(&self, id: FileId, images: &mut ImageSink<'_>) -> Result<()> {
        let Self { status, inode, kind, protocol, port, groups, peer, options, switches } = self;
        let (flags, fown) = status.encode();
        let (dst_portid, dst_group) = peer.unwrap_or_default();
        let nlsk = NetlinkSkEntry {
            id: id.as_raw(),
            ino: *inode,
            protocol: protocol.cast_unsigned(),
            state: peer.is_some().into(),
            flags,
            portid: *port,
            groups: groups.clone(),
            dst_portid,
            dst_group,
            fown,
            opts: options.encode(),
            ns_id: None,
            kind: Some(kind.cast_unsigned()),
            switches: switches.iter().map(|&place| SWITCHES[place].cast_unsigned()).collect(),
        };
        let entry = FileEntry {
            kind: Self::TYPE.into(),
            id: id.as_raw(),
            nlsk: Some(Box::new(nlsk)),
            ..FileEntry::default()
        };
        images.put(id, entry);
        Ok(())
    }

    fn decode(id: FileId, entry: &FileEntry, _: &mut ImageSource<'_>) -> Result<Self> {
        let wrong = |reason| corrupt(ImageName::Files, Self::NAME, id.as_raw(), reason);
        let Some(nlsk) = entry.nlsk.as_deref() else {
            return Err(wrong("it has no netlink_sk_entry"));
        };
        if nlsk.id != id.as_raw() {
            return Err(wrong("its two numbers differ"));
        }
        let kind = nlsk.kind.unwrap_or(libc::SOCK_RAW.cast_unsigned()).cast_signed();
        if !is_known(kind, nlsk.protocol) {
            return Err(wrong("no netlink socket is of its type and protocol"));
        }
        let peer = match nlsk.state {
            0 => None,
            1 if nlsk.dst_group <= 32 => Some((nlsk.dst_portid, nlsk.dst_group)),
            _ => return Err(wrong("its state is none")),
        };
        if nlsk.groups.len() > MAX_GROUPS {
            return Err(wrong("it is a member of more groups than there are"));
        }
        let place = |&name: &u32| SWITCHES.iter().position(|own| own.cast_unsigned() == name);
        let switches: Option<_> = nlsk.switches.iter().map(place).collect();
        Ok(Self {
            status: Status::decode(Self::NAME, id, nlsk.flags, &nlsk.fown)?,
            inode: nlsk.ino,
            kind,
            protocol: nlsk.protocol.cast_signed(),
            port: nlsk.portid,
            groups: nlsk.groups.clone(),
            peer,
            options: SocketOptions::decode(&nlsk.opts).map_err(wrong)?,
            switches: switches.ok_or_else(|| wrong("it has an option that is unknown here"))?,
        })
    }

    fn status(&self) -> &Status {
        &self.status
    }

    fn stage(&self) -> Stage {
        Stage::Early
    }

    fn create(&self, _: FileId, _: &mut CreateCx<'_>) -> Result<OwnedFd> {
        let protocol = std::num::NonZeroU32::new(self.protocol.cast_unsigned());
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::from_raw(self.kind.cast_unsigned()),
            SocketFlags::CLOEXEC,
            protocol.map(Protocol::from_raw),
        )
        .map_err(kernel("socket"))?;
        self.status.apply(Self::NAME, socket.as_fd())?;
        Ok(socket)
    }

    fn inode(&self) -> Option<&dyn Inode> {
        None
    }

    fn fill(_: FillRank, files: &[Created<'_, Self>], _: &FillCx<'_>) -> Result<()> {
        files.iter().try_for_each(|Created { kind: socket, file, .. }| socket.arm(*file))
    }
}

impl Netlink {
    fn arm(&self, file: BorrowedFd<'_>) -> Result<()> {
        self.options.apply(file)?;
        for &place in &self.switches {
            option(SWITCHES[place]).set(file, 1).map_err(kernel("setsockopt"))?;
        }
        let first = self.groups.first().copied().unwrap_or(0);
        if self.port != 0 {
            let address = SocketAddrNetlink::new(self.port, first);
            bind(file, &address).map_err(|source| match source {
                Errno::ADDRINUSE => Error::Unsupported {
                    object: "a netlink socket",
                    detail: self.port.to_string().into(),
                    reason: "another socket has its port",
                    hint: "end the program that has it, or restore in a network namespace of its own",
                },
                source => kernel("bind")(source),
            })?;
        }
        for (word, bits) in self.groups.iter().enumerate() {
            let joined = word == 0 && self.port != 0;
            for bit in (0..32).filter(|bit| !joined && bits >> bit & 1 == 1) {
                let group = (32 * word + bit + 1) as i32;
                option(ADD_MEMBERSHIP)
                    .set(file, group)
                    .map_err(kernel("NETLINK_ADD_MEMBERSHIP"))?;
            }
        }
        if let Some((port, group)) = self.peer {
            let groups = group.checked_sub(1).map_or(0, |bit| 1 << bit);
            let address = SocketAddrNetlink::new(port, groups);
            connect(file, &address).map_err(kernel("connect"))?;
        }
        self.options.finish(file)
    }
}
