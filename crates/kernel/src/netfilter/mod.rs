//! Tables of `nftables(8)` that let no packet of some TCP connections through,
//! by netlink alone: `include/uapi/linux/netfilter/nf_tables.h`.
//!
//! The table is of the family `inet`, with a chain for what comes in and one
//! for what goes out, and with two sets of connections: their packets are
//! dropped, unless they bear [`PASSING_MARK`].

mod wire;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socket_with};
use thiserror::Error;

use crate::Errno;
use crate::sock_diag::message::messages;
use wire::Batch;

/// A packet with this mark (`SO_MARK`) passes: it is of a checkpointer's own.
/// The same as in CRIU's tables.
pub const PASSING_MARK: u32 = 0xc114;

/// A table could not be made or changed.
#[derive(Debug, Error)]
#[error("{operation} of the nftables table {table:?}")]
pub struct LockError {
    /// What was tried.
    pub operation: &'static str,
    /// The name of the table.
    pub table: String,
    /// Why it failed. `EPERM`: this takes `CAP_NET_ADMIN`; `EPROTONOSUPPORT`
    /// and `EOPNOTSUPP`: the kernel has no nftables.
    pub source: Errno,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ends {
    /// One.
    pub local: SocketAddr,
    /// The other.
    pub remote: SocketAddr,
}

/// How long a table lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// As long as the [`LockTable`] that made it; the kernel sees to that.
    WithMaker,
    /// Until it is removed.
    UntilRemoved,
}

/// A table, and the way to change it.
#[derive(Debug)]
pub struct LockTable {
    socket: OwnedFd,
    name: String,
}

/// In a message; the length of a list of them has 16 bits.
const ELEMENTS: usize = 500;

/// More than any answer to a batch takes.
const ANSWER: usize = 1 << 16;

fn netlink() -> Result<OwnedFd, Errno> {
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    socket_with(family, kind, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))
}

impl LockTable {
    /// Makes a table that drops nothing yet.
    ///
    /// # Errors
    /// `EEXIST`: there is one of this name; and see [`LockError`].
    pub fn make(name: &str, lasts: Lasts) -> Result<Self, LockError> {
        let failed = |source| LockError { operation: "making", table: name.to_owned(), source };
        let table = Self { socket: netlink().map_err(failed)?, name: name.to_owned() };
        let mut batch = Batch::new();
        batch.table(name, lasts == Lasts::WithMaker);
        for (set, family) in wire::SETS {
            batch.set(name, set, family);
        }
        for (chain, hook) in wire::CHAINS {
            batch.chain(name, chain, hook);
            batch.pass_marked(name, chain, PASSING_MARK);
            for (set, family) in wire::SETS {
                batch.drop_listed(name, chain, (set, family));
            }
        }
        table.run(batch).map_err(failed)?;
        Ok(table)
    }

    /// Lets nothing of these connections through any more, in either direction.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn lock(&self, connections: impl IntoIterator<Item = Ends>) -> Result<(), LockError> {
        let mut keys = [Vec::new(), Vec::new()];
        for Ends { local, remote } in connections {
            let (local, remote) = (plain(local), plain(remote));
            let of_family = &mut keys[usize::from(local.is_ipv6())];
            of_family.extend([key(local, remote), key(remote, local)]);
        }
        for ((set, _), keys) in wire::SETS.into_iter().zip(keys) {
            for some in keys.chunks(ELEMENTS) {
                let mut batch = Batch::new();
                batch.elements(&self.name, set, some);
                self.run(batch).map_err(|source| LockError {
                    operation: "filling",
                    table: self.name.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Lets nobody new in any more who asks for a connection at one of these
    /// addresses. Once for each table.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn close_doors(
        &self,
        listeners: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<(), LockError> {
        let mut keys = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for at in listeners {
            let at = plain(at);
            match (at.ip().is_unspecified(), at) {
                (true, _) => keys[2].insert(at.port().to_be_bytes().to_vec()),
                (false, SocketAddr::V4(_)) => keys[0].insert(end_key(at)),
                (false, SocketAddr::V6(_)) => keys[1].insert(end_key(at)),
            };
        }
        for ((set, family), keys) in wire::DOORS.into_iter().zip(keys) {
            let keys: Vec<_> = keys.into_iter().collect();
            for (number, some) in keys.chunks(ELEMENTS).enumerate() {
                let mut batch = Batch::new();
                if number == 0 {
                    batch.doors(&self.name, set, family);
                    batch.drop_new(&self.name, (set, family));
                }
                batch.elements(&self.name, set, some);
                self.run(batch).map_err(|source| LockError {
                    operation: "closing the doors",
                    table: self.name.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn remove(self) -> Result<(), LockError> {
        remove(&self.name).map(drop)
    }

    /// A socket to send a [`removal`] over.
    ///
    /// # Errors
    /// What `socket(2)` says.
    pub fn removal_socket() -> Result<OwnedFd, Errno> {
        netlink()
    }

    fn run(&self, batch: Batch) -> Result<(), Errno> {
        run(&self.socket, batch)
    }
}

/// The datagram that removes a table, for whoever has a
/// [`removal_socket`](LockTable::removal_socket).
#[must_use]
pub fn removal(name: &str) -> Vec<u8> {
    removing(name).into_datagram()
}

fn removing(name: &str) -> Batch {
    let mut batch = Batch::new();
    batch.remove(name);
    batch
}

/// Removes a table by its name; tells whether there was one.
///
/// # Errors
/// See [`LockError`].
pub fn remove(name: &str) -> Result<bool, LockError> {
    match netlink().and_then(|socket| run(&socket, removing(name))) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(source) => Err(LockError { operation: "removing", table: name.to_owned(), source }),
    }
}

/// Sends a batch, which is carried out whole or not at all, and waits for what
/// has become of it.
fn run(socket: &OwnedFd, batch: Batch) -> Result<(), Errno> {
    let datagram = batch.into_datagram();
    send(socket, &datagram, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER];
    loop {
        let (len, _) = recv(socket, &mut answer[..], RecvFlags::empty())?;
        for message in messages(&answer[..len]) {
            let (header, body) = message.map_err(|_| Errno::BADMSG)?;
            if i32::from(header.kind) == libc::NLMSG_ERROR {
                let code = body.first_chunk().ok_or(Errno::BADMSG)?;
                // Only the last message of a batch asks for an answer, and
                // every one that fails gives one: the first says it all.
                return match i32::from_ne_bytes(*code) {
                    0 => Ok(()),
                    code => Err(Errno::from_raw_os_error(code.saturating_neg())),
                };
            }
        }
    }
}

/// The address that packets have: a mapped one is of IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An element of a set: address and port of the sender and of the receiver,
/// each padded to four bytes.
fn key(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    [from, to].map(end_key).concat()
}

/// One end of it.
fn end_key(end: SocketAddr) -> Vec<u8> {
    let mut key = match end.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    key.extend(end.port().to_be_bytes());
    key.extend([0; 2]);
    key
}

#[cfg(test)]
mod tests {
    use super::{Ends, Lasts, LockTable, remove};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    fn pair(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    /// Whether a byte comes through, in a while.
    fn passes((one, other): &mut (TcpStream, TcpStream), wait: Duration) -> bool {
        other.set_read_timeout(Some(wait)).unwrap();
        one.write_all(b"x").unwrap();
        other.read_exact(&mut [0]).is_ok()
    }

    #[test]
    fn packets_are_held_up_until_the_table_goes() {
        for (number, address) in ["127.0.0.1:0", "[::1]:0"].into_iter().enumerate() {
            let name = format!("dormouse-test-{}-{number}", std::process::id());
            let (mut locked, mut other) = (pair(address), pair(address));
            let table = LockTable::make(&name, Lasts::WithMaker).unwrap();
            let (local, remote) = (locked.0.local_addr().unwrap(), locked.0.peer_addr().unwrap());
            table.lock([Ends { local, remote }, Ends { local: remote, remote: local }]).unwrap();
            assert!(passes(&mut other, Duration::from_secs(5)));
            assert!(!passes(&mut locked, Duration::from_millis(100)));
            drop(table);
            locked.1.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            locked.1.read_exact(&mut [0]).unwrap();
        }
    }

    #[test]
    fn nobody_new_gets_in_until_the_table_goes() {
        for (number, address) in
            ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"].into_iter().enumerate()
        {
            let name = format!("dormouse-test-{}-doors-{number}", std::process::id());
            let listener = TcpListener::bind(address).unwrap();
            let mut at = listener.local_addr().unwrap();
            let other = TcpListener::bind("127.0.0.1:0").unwrap();
            let table = LockTable::make(&name, Lasts::WithMaker).unwrap();
            table.close_doors([at]).unwrap();
            if at.ip().is_unspecified() {
                at.set_ip([127, 0, 0, 1].into());
            }
            let wait = Duration::from_millis(100);
            assert!(TcpStream::connect_timeout(&at, wait).is_err(), "{at}");
            TcpStream::connect(other.local_addr().unwrap()).unwrap();
            drop(table);
            TcpStream::connect(at).unwrap();
        }
    }

    #[test]
    fn a_table_stays_until_it_is_removed() {
        let name = format!("dormouse-test-{}-stays", std::process::id());
        drop(LockTable::make(&name, Lasts::UntilRemoved).unwrap());
        assert!(remove(&name).unwrap());
        assert!(!remove(&name).unwrap());
    }
}
