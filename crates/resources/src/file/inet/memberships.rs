//! Multicast groups that a socket is a member of.
//!
//! Truth from: the groups that anybody on the host is a member of
//! (`/proc/net/igmp`, `igmp6`), and for each the filter that the socket has for
//! it (`MCAST_MSFILTER`), which only members have.
//! Image: in a field of our own; CRIU has none, and loses them.
//! Fill: `MCAST_JOIN_GROUP`, then the filter.
//! Not preserved: memberships on interfaces that are gone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use dormouse_image::proto::files::inet::InetMembershipEntry;
use dormouse_kernel::Errno;
use dormouse_kernel::multicast::{Group, groups};
use dormouse_kernel::socket::SocketOption;

use super::options::Kind;
use crate::file::interfaces;
use crate::{Error, Result};

// include/uapi/linux/in.h.
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_MSFILTER: i32 = 48;
const MCAST_INCLUDE: u32 = 1;

/// `struct sockaddr_storage`.
const ADDRESS: usize = 128;
/// `struct group_filter`: interface and padding, group, mode, number of
/// sources; the sources follow.
const FILTER: usize = 8 + ADDRESS + 8;
/// A longer filter than any kernel takes by default (`igmp_max_msf`).
const MAX_SOURCES: usize = 4096;

/// A socket is a member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    interface: u32,
    group: IpAddr,
    /// Whether it wants to hear from the sources only, or from all others.
    include: bool,
    sources: Vec<IpAddr>,
}

/// Groups that sockets may be members of.
#[derive(Default)]
pub(super) struct Groups(Option<Vec<Group>>);

impl Groups {
    /// The memberships of a socket.
    pub(super) fn of(&mut self, socket: BorrowedFd<'_>, kind: Kind) -> Result<Vec<Membership>> {
        // The kernel lets no stream join.
        if kind.is_stream() {
            return Ok(Vec::new());
        }
        let groups = match &mut self.0 {
            Some(groups) => groups,
            none => none.insert(candidates()?),
        };
        let mut found = Vec::new();
        for group in groups.iter().filter(|group| takes(kind, group.address)) {
            found.extend(probe(socket, group)?);
        }
        Ok(found)
    }
}

/// Groups without those in which nobody is but the kernel.
fn candidates() -> Result<Vec<Group>> {
    let mut all = groups().map_err(Error::kernel("read", "/proc/net/igmp"))?;
    all.retain(|group| group.users > 1 || !is_own(group.address));
    Ok(all)
}

/// The kernel joins it on every interface, once: all hosts.
fn is_own(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group == Ipv4Addr::new(224, 0, 0, 1),
        IpAddr::V6(group) => {
            matches!(group.segments(), [0xff01 | 0xff02, 0, 0, 0, 0, 0, 0, 1])
        }
    }
}

/// Whether sockets of the kind can be members of groups of the address's
/// family.
fn takes(kind: Kind, group: IpAddr) -> bool {
    group.is_ipv6() == kind.is_v6() || group.is_ipv4() && !kind.is_raw()
}

fn option(group: IpAddr, name: i32) -> SocketOption {
    let level = if group.is_ipv6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    SocketOption::new(level, name)
}

/// The filter that a socket has for a group, if it is a member.
fn probe(socket: BorrowedFd<'_>, group: &Group) -> Result<Option<Membership>> {
    let &Group { interface, address, .. } = group;
    let mut room = 16;
    loop {
        let mut value = header(interface, address);
        value.extend(0_u32.to_ne_bytes());
        value.extend((room as u32).to_ne_bytes());
        value.resize(FILTER + room * ADDRESS, 0);
        match option(address, MCAST_MSFILTER).get_into(socket, &mut value) {
            Ok(_) => {}
            Err(Errno::ADDRNOTAVAIL | Errno::NODEV) => return Ok(None),
            Err(source) => return Err(Error::kernel("MCAST_MSFILTER", "a socket")(source)),
        }
        let number = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| value[at + byte]));
        let (mode, count) = (number(FILTER - 8), number(FILTER - 4) as usize);
        if count > room {
            room = count;
            continue;
        }
        let sources = value[FILTER..].chunks(ADDRESS).take(count).filter_map(from_storage);
        let sources = sources.collect();
        return Ok(Some(Membership {
            interface,
            group: address,
            include: mode == MCAST_INCLUDE,
            sources,
        }));
    }
}

/// The beginning of all structures: interface, group.
fn header(interface: u32, group: IpAddr) -> Vec<u8> {
    let mut value = interface.to_ne_bytes().to_vec();
    value.resize(8, 0);
    value.extend(storage(group));
    value
}

/// An address as a `struct sockaddr_storage`.
fn storage(address: IpAddr) -> Vec<u8> {
    let (family, before, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET, 4, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, 8, address.octets().to_vec()),
    };
    let mut value = (family as libc::sa_family_t).to_ne_bytes().to_vec();
    value.resize(before, 0);
    value.extend(bytes);
    value.resize(ADDRESS, 0);
    value
}

fn from_storage(value: &[u8]) -> Option<IpAddr> {
    let family = i32::from(u16::from_ne_bytes(*value.first_chunk()?));
    match family {
        libc::AF_INET => Some(Ipv4Addr::from(*value.get(4..)?.first_chunk::<4>()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(*value.get(8..)?.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// As images have an address: its bytes.
pub(super) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

impl Membership {
    /// As images have it.
    pub(super) fn encode(&self) -> Result<InetMembershipEntry> {
        let Self { interface, group, include, sources } = self;
        Ok(InetMembershipEntry {
            ifname: interfaces::name(*interface)?,
            group: bytes(*group),
            include: *include,
            sources: sources.iter().map(|&source| bytes(source)).collect(),
        })
    }

    /// Judges what an image has.
    pub(super) fn decode(
        entry: &InetMembershipEntry,
        kind: Kind,
        interface: u32,
    ) -> Result<Self, &'static str> {
        let InetMembershipEntry { ifname: _, group, include, sources } = entry;
        let group = from_bytes(group).filter(|&group| group.is_multicast());
        let group = group.ok_or("a multicast group is none")?;
        if kind.is_stream() || !takes(kind, group) {
            return Err("it cannot be a member of a group");
        }
        if sources.len() > MAX_SOURCES || *include && sources.is_empty() {
            return Err("the filter of a multicast group is none");
        }
        let source = |bytes: &Vec<u8>| {
            from_bytes(bytes).filter(|source| source.is_ipv4() == group.is_ipv4())
        };
        let sources: Option<_> = sources.iter().map(source).collect();
        let sources = sources.ok_or("a source of a multicast group is none")?;
        Ok(Self { interface, group, include: *include, sources })
    }

    /// Makes a socket a member.
    pub(super) fn join(&self, socket: BorrowedFd<'_>) -> Result<()> {
        let Self { interface, group, include, sources } = self;
        let failed = |call| Error::kernel(call, group.to_string());
        let header = header(*interface, *group);
        option(*group, MCAST_JOIN_GROUP)
            .set_bytes(socket, &header)
            .map_err(failed("MCAST_JOIN_GROUP"))?;
        if *include || !sources.is_empty() {
            let mut value = header;
            value.extend(u32::from(*include).to_ne_bytes());
            value.extend((sources.len() as u32).to_ne_bytes());
            value.extend(sources.iter().flat_map(|&source| storage(source)));
            option(*group, MCAST_MSFILTER)
                .set_bytes(socket, &value)
                .map_err(failed("MCAST_MSFILTER"))?;
        }
        Ok(())
    }
}
