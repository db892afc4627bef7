//! Multicast groups that somebody on this host is a member of, by interface:
//! `/proc/net/igmp` and `/proc/net/igmp6`.

use crate::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A group on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The interface's index.
    pub interface: u32,
    /// The group's address.
    pub address: IpAddr,
    /// How many are members: sockets, and the kernel itself.
    pub users: u32,
}

/// Lists the groups of the calling thread's network namespace, of both
/// families.
///
/// # Errors
/// `/proc` cannot be read; `EILSEQ`: it does not look as expected.
pub fn groups() -> Result<Vec<Group>, Errno> {
    let mut found = Vec::new();
    for (name, parse) in [("igmp", parse_v4 as fn(&str) -> _), ("igmp6", parse_v6)] {
        let text = match std::fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
            Ok(text) => text,
            // The kernel has no such family.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::ILSEQ)),
        };
        let groups: Option<Vec<Group>> = parse(&text);
        found.extend(groups.ok_or(Errno::ILSEQ)?);
    }
    Ok(found)
}

/// A line for each interface, which begins with its index; then an indented
/// one for each group: address (a number in the order of the network, written
/// in that of the machine), users, timer.
fn parse_v4(text: &str) -> Option<Vec<Group>> {
    let mut groups = Vec::new();
    let mut interface = None;
    for line in text.lines().skip(1) {
        let mut words = line.split_ascii_whitespace();
        if !line.starts_with(['\t', ' ']) {
            interface = Some(words.next()?.parse().ok()?);
            continue;
        }
        let address = u32::from_str_radix(words.next()?, 16).ok()?;
        let address = Ipv4Addr::from(address.to_ne_bytes()).into();
        groups.push(Group { interface: interface?, address, users: words.next()?.parse().ok()? });
    }
    Some(groups)
}

/// A line for each: index and name of the interface, address, users, flags,
/// timer.
fn parse_v6(text: &str) -> Option<Vec<Group>> {
    let group = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let interface = words.next()?.parse().ok()?;
        let address = u128::from_str_radix(words.nth(1)?, 16).ok()?;
        let address = Ipv6Addr::from(address.to_be_bytes()).into();
        Some(Group { interface, address, users: words.next()?.parse().ok()? })
    };
    text.lines().map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::{Group, groups, parse_v4, parse_v6};
    use std::net::{Ipv4Addr, UdpSocket};

    #[test]
    fn both_tables_are_parsed() {
        let v4 = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
            1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
            12\teth0      :     2      V3\n\t\t\t\tFB0000E0     2 0:00000000\t\t0\n";
        let all: std::net::IpAddr = Ipv4Addr::new(224, 0, 0, 1).into();
        let mdns = Ipv4Addr::new(224, 0, 0, 251).into();
        if cfg!(target_endian = "little") {
            let expected = [
                Group { interface: 1, address: all, users: 1 },
                Group { interface: 12, address: mdns, users: 2 },
            ];
            assert_eq!(parse_v4(v4).unwrap(), expected);
        }
        let v6 = "4    eth0            ff0200000000000000000001ff000002     3 00000004 0\n";
        let address = "ff02::1:ff00:2".parse().unwrap();
        assert_eq!(parse_v6(v6).unwrap(), [Group { interface: 4, address, users: 3 }]);
        assert_eq!(parse_v4("Idx\n\t\t\t\t010000E0     1\n"), None);
        assert_eq!(parse_v6("4 eth0\n"), None);
    }

    #[test]
    fn a_membership_shows() {
        let group = Ipv4Addr::new(239, 77, 1, 9);
        let count = || groups().unwrap().iter().filter(|at| at.address == group).count();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(count(), 0);
        socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(count(), 1);
    }
}
