//! The open connections of a tree, held for a dump.
//!
//! Kernel object: the sockets, and a table of the packet filter.
//!
//! Before the first is read, no packet of any of them gets through any more:
//! then they stand still as the tree does, and what peers send meanwhile they
//! will send again. A socket is under repair only while it is read, for its
//! program would notice; and another process stands ready to end that should
//! this one die.
//!
//! If the tree is killed, the sockets outlive it here, are put under repair and
//! closed: no peer hears of it. The lock of the network stays until a restore
//! lifts it.

mod listeners;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dormouse_kernel::clone::{Custodian, Duty, Ward};
use dormouse_kernel::netfilter::{self, Ends, Lasts, LockTable};
use dormouse_kernel::sock_diag::InetDiag;
use dormouse_kernel::socket::SocketOption;
use dormouse_kernel::tcp::{self, Repair};

use self::listeners::children;
use super::connected::refuse_inner_state;
use super::connection::Connection;
use super::inside::{InnerState, Unaccepted};
use super::listing::Listing;
use super::options::{Kind, TCP};
use super::unaccepted::{Child, Unkept};
use crate::file::likeness::Alike;
use crate::file::{CollectCx, FileId, NetworkLock, Probe, SocketFamily};
use crate::{Error, Result};

const REUSE: SocketOption = SocketOption::of_socket(libc::SO_REUSEADDR);

/// A socket of a connection, its `SO_REUSEADDR`, what no call tells of it, and
/// which of its options are those of a new one.
#[derive(Debug)]
struct Held {
    socket: OwnedFd,
    kind: Kind,
    reuse: bool,
    inner: InnerState,
    alike: Option<Alike>,
    /// The place of its other end among those that wait to be accepted, if it
    /// does.
    unaccepted: Option<u32>,
}

/// What waits for one that listens.
#[derive(Debug)]
struct Waiting {
    /// How many can be accepted.
    number: usize,
    /// Those that are not connected again from here.
    kept: Result<Vec<Child>, Unkept>,
}

/// The open connections of a tree, as long as they are held.
#[derive(Debug, Default)]
pub struct HeldConnections {
    sockets: BTreeMap<FileId, Held>,
    listeners: BTreeMap<FileId, Waiting>,
    /// Those that listen, and keep connections back until something is sent on
    /// them, as long as there are such.
    deferring: BTreeSet<FileId>,
    // In this order: the custodian ends what is left of repairs, and only then
    // may packets pass again.
    custodian: Option<Custodian>,
    /// What holds up packets during the dump; it goes with this process.
    table: Option<LockTable>,
    /// What holds them up until the restore.
    lasting: Option<LockTable>,
    ends: BTreeSet<Ends>,
    run: String,
}

/// The name of the table that stays until the restore. CRIU has room for no
/// more of it.
fn lasting_name(run: &str) -> String {
    const LONGEST: usize = 26;
    format!("CRIU-{run}").chars().take(LONGEST).collect()
}

/// Lets packets of connections pass again that were locked by the dump of this
/// name.
///
/// # Errors
/// The kernel refuses.
pub fn unlock_network(run: &str) -> Result<()> {
    netfilter::remove(&lasting_name(run)).map(drop).map_err(Error::from)
}

/// A name that nobody has.
fn fresh_name() -> Result<String> {
    const UUID: &str = "/proc/sys/kernel/random/uuid";
    let name = std::fs::read_to_string(UUID).map_err(Error::kernel_io("read", UUID))?;
    Ok(name.trim_end().to_owned())
}

/// One address, however it is written.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

const LISTEN: u8 = 10;

/// What a connection's state is not (`include/net/tcp_states.h`): of sockets
/// that nobody has, closed, or listening.
fn is_open(state: u8) -> bool {
    const SYN_RECV: u8 = 3;
    const TIME_WAIT: u8 = 6;
    const CLOSE: u8 = 7;
    const NEW_SYN_RECV: u8 = 12;
    ![SYN_RECV, TIME_WAIT, CLOSE, LISTEN, NEW_SYN_RECV].contains(&state)
}

/// The kind that a socket of TCP has, if it can be one.
fn kind_of(probe: &Probe, protocol: i32) -> Option<Kind> {
    let family = match probe.socket_family()? {
        SocketFamily::INET => libc::AF_INET,
        SocketFamily::INET6 => libc::AF_INET6,
        _ => return None,
    };
    Some(Kind { family, kind: libc::SOCK_STREAM, protocol })
}

/// What the kernel lists of all sockets of the tree that have a port.
fn listed<'a>(cx: &CollectCx<'a>, protocol: i32) -> Result<Vec<(&'a Probe, Kind, InetDiag)>> {
    let mut all = Vec::new();
    for probe in cx.probes.values().filter(|probe| probe.has_description()) {
        let Some(kind) = kind_of(probe, protocol) else { continue };
        if let Some(listed) = cx.part::<Listing>().of(kind, probe.stat.st_ino as u32)? {
            all.push((probe, kind, listed));
        }
    }
    Ok(all)
}

impl HeldConnections {
    /// Holds all that are open.
    fn of_tree(cx: &CollectCx<'_>) -> Result<Self> {
        let mut held = Self::default();
        held.run = fresh_name()?;
        let listeners = held.close_doors(cx)?;
        let (mut unaccepted, mut by_ends) = (BTreeMap::new(), BTreeMap::new());
        for (&id, (socket, kind, _)) in listeners.iter().filter(|(_, it)| it.1.protocol == TCP) {
            let mut listing = cx.part::<Listing>();
            let inside = listing.inside().map_err(Error::InetReader)?;
            let all = inside.unaccepted(socket.as_fd(), kind.is_v6());
            unaccepted.insert(id, all.map_err(Error::InetReader)?);
        }
        for (probe, kind, listed) in listed(cx, TCP)? {
            if !is_open(listed.state) {
                continue;
            }
            let socket = probe.duplicate()?;
            let reuse = REUSE.get(&socket).map_err(Error::kernel("SO_REUSEADDR", "a socket"))?;
            let ends = Ends { local: listed.local, remote: listed.remote };
            by_ends.insert([ends.local, ends.remote].map(canonical), (probe.id, ends));
            let held_socket = Held {
                socket,
                kind,
                reuse: reuse != 0,
                inner: InnerState::default(),
                alike: None,
                unaccepted: None,
            };
            held.sockets.insert(probe.id, held_socket);
        }
        held.match_unaccepted(&mut unaccepted, &mut by_ends);
        if cx.options.skip_in_flight {
            // The others are dropped, and their peers are to hear of it.
            unaccepted.clear();
        }
        let of_children = unaccepted.values().flatten();
        let of_children = of_children.map(|it| Ends { local: it.local, remote: it.remote });
        for ends in by_ends.into_values().map(|(_, ends)| ends).chain(of_children) {
            held.hold(ends);
        }
        let ends: Vec<_> = held.ends.iter().copied().collect();
        if !ends.is_empty()
            && let Some(table) = held.table(cx)?
        {
            table.lock(ends)?;
        }
        held.look_inside(&mut cx.part::<Listing>())?;
        for (id, number) in unaccepted.into_iter().map(|(id, all)| (id, all.len())) {
            let (socket, kind, _) = &listeners[&id];
            let kept = children(cx, socket.as_fd(), *kind)?;
            held.listeners.insert(id, Waiting { number, kept });
        }
        held.add_deferred(cx, &listeners)?;
        if held.run().is_some() {
            held.appoint()?;
        }
        Ok(held)
    }

    /// Has packets between two ends held up, once.
    fn hold(&mut self, ends: Ends) {
        let Ends { local, remote } = ends;
        if !self.ends.contains(&Ends { local: remote, remote: local }) {
            self.ends.insert(ends);
        }
    }

    /// What holds up packets during the dump, if anything does.
    fn table(&mut self, cx: &CollectCx<'_>) -> Result<Option<&LockTable>> {
        if cx.options.network_lock == NetworkLock::Nftables && self.table.is_none() {
            let name = format!("dormouse-{}", self.run);
            self.table = Some(LockTable::make(&name, Lasts::WithMaker)?);
        }
        Ok(self.table.as_ref())
    }

    /// Finds those whose other ends wait to be accepted in the tree, and takes
    /// them out: they are connected anew, and nothing has to be held up.
    fn match_unaccepted(
        &mut self,
        unaccepted: &mut BTreeMap<FileId, Vec<Unaccepted>>,
        by_ends: &mut BTreeMap<[SocketAddr; 2], (FileId, Ends)>,
    ) {
        unaccepted.retain(|&listener, all| {
            let ends = |it: &Unaccepted| [it.remote, it.local].map(canonical);
            if !all.iter().all(|it| it.is_untouched && by_ends.contains_key(&ends(it))) {
                return true;
            }
            self.listeners.insert(listener, Waiting { number: all.len(), kept: Ok(Vec::new()) });
            for (it, place) in all.iter().zip(0..) {
                let found = by_ends.remove(&ends(it));
                let client = found.and_then(|(id, _)| self.sockets.get_mut(&id));
                if let Some(client) = client {
                    client.unaccepted = Some(place);
                }
            }
            false
        });
    }

    fn look_inside(&mut self, listing: &mut Listing) -> Result<()> {
        let kinds: BTreeSet<Kind> = self.sockets.values().map(|held| held.kind).collect();
        for kind in kinds {
            let mut all: Vec<_> =
                self.sockets.values_mut().filter(|held| held.kind == kind).collect();
            let sockets: Vec<_> = all.iter().map(|held| held.socket.as_fd()).collect();
            let alike = listing.alike(&sockets, kind)?;
            let inside = listing.inside().map_err(Error::InetReader)?;
            let inner = inside.inner_states(&sockets).map_err(Error::InetReader)?;
            for (held, (inner, alike)) in all.iter_mut().zip(inner.into_iter().zip(alike)) {
                (held.inner, held.alike) = (inner, Some(alike));
            }
        }
        Ok(())
    }

    fn appoint(&mut self) -> Result<()> {
        let failed = || Error::kernel("fork", "a custodian of connections");
        let over = LockTable::removal_socket().map_err(failed())?;
        let message = netfilter::removal(&lasting_name(&self.run));
        let wards = self.sockets.values();
        let wards = wards.map(|held| Ward { socket: held.socket.as_fd(), reuse: held.reuse });
        let custodian = Custodian::appoint(&wards.collect::<Vec<_>>(), over.as_fd(), &message);
        self.custodian = Some(custodian.map_err(failed())?);
        Ok(())
    }

    /// Reads a connection.
    fn read(
        &self,
        probe: &Probe,
        read: impl FnOnce(BorrowedFd<'_>, &InnerState) -> Result<Option<Connection>>,
    ) -> Result<Option<Connection>> {
        let Some(Held { socket, reuse, inner, unaccepted, .. }) = self.sockets.get(&probe.id)
        else {
            return Ok(None);
        };
        refuse_inner_state(probe, socket.as_fd(), inner)?;
        let failed = || Error::kernel("TCP_REPAIR", "a TCP connection");
        tcp::repair(socket, Repair::On).map_err(failed())?;
        let connection = read(socket.as_fd(), inner);
        tcp::repair(socket, Repair::OffSilently).map_err(failed())?;
        REUSE.set(socket, i32::from(*reuse)).map_err(failed())?;
        match (connection?, unaccepted) {
            (Some(connection), &Some(place)) => match connection.unaccepted(place) {
                Some(connection) => Ok(Some(connection)),
                None => Err(Unkept::Restless.refusal(probe)),
            },
            (connection, _) => Ok(connection),
        }
    }

    /// The name that the inventory keeps, if there is anything to be unlocked
    /// at the restore.
    #[must_use]
    pub fn run(&self) -> Option<&str> {
        let holds = !(self.sockets.is_empty() && self.ends.is_empty());
        holds.then_some(self.run.as_str())
    }

    /// Has the lock of the network outlast this process, if it comes to
    /// [`Self::close`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn outlast(&mut self) -> Result<()> {
        if self.table.is_none() || self.run().is_none() {
            return Ok(());
        }
        if let Some(custodian) = &mut self.custodian {
            custodian.charge(Duty::EndRepairAndSend);
        }
        let table = LockTable::make(&lasting_name(&self.run), Lasts::UntilRemoved)?;
        let lasting = self.lasting.insert(table);
        Ok(lasting.lock(self.ends.iter().copied())?)
    }

    /// The tree is ending and there is no way back.
    pub fn orphan(&mut self) {
        if let Some(custodian) = &mut self.custodian {
            custodian.charge(Duty::CloseSilently);
        }
    }

    /// Closes the connections when nobody else has them any more; their peers
    /// hear nothing. From now on nothing but [`unlock_network`] lets packets
    /// pass.
    pub fn close(mut self) {
        for Held { socket, .. } in std::mem::take(&mut self.sockets).into_values() {
            // Should it fail, the custodian does it again.
            let _ = tcp::repair(&socket, Repair::On);
        }
        // It stays in charge of closing silently, for it has them too.
        self.custodian = None;
        self.lasting = None;
    }
}

impl Drop for HeldConnections {
    fn drop(&mut self) {
        // Whatever was left undone is done by the custodian, and the table of
        // the dump goes by itself.
        self.sockets.clear();
        self.custodian = None;
        if let Some(lasting) = self.lasting.take() {
            let _ = lasting.remove();
        }
    }
}

impl CollectCx<'_> {
    /// Reads the connection of a socket, and before the first one holds all.
    pub(super) fn read_connection(
        &self,
        probe: &Probe,
        read: impl FnOnce(BorrowedFd<'_>, &InnerState) -> Result<Option<Connection>>,
    ) -> Result<Option<Connection>> {
        self.hold_connections()?;
        let held = self.part::<Option<HeldConnections>>();
        held.as_ref().map_or(Ok(None), |held| held.read(probe, read))
    }

    /// Holds all, if that was not done before.
    pub(super) fn hold_connections(&self) -> Result<()> {
        if self.part::<Option<HeldConnections>>().is_none() {
            let held = HeldConnections::of_tree(self)?;
            *self.part() = Some(held);
        }
        Ok(())
    }

    /// The connections that wait for a listener to accept them, so many, but for
    /// those that come back with their other ends.
    pub(super) fn unaccepted(&self, listener: FileId, number: usize) -> Result<Vec<Child>, Unkept> {
        let mut held = self.part::<Option<HeldConnections>>();
        let found = held.as_mut().and_then(|held| held.listeners.remove(&listener));
        match found {
            Some(Waiting { kept, number: found }) if found == number => kept,
            None if number == 0 => Ok(Vec::new()),
            // Without a lock, others may have come.
            _ => Err(Unkept::Restless),
        }
    }

    /// Which options of a connection that is held are those of a new socket.
    pub(super) fn alike(&self, id: FileId) -> Option<Alike> {
        self.part::<Option<HeldConnections>>().as_ref()?.sockets.get(&id)?.alike.clone()
    }

    /// The connections that are held since they were read.
    #[must_use]
    pub fn take_connections(&self) -> HeldConnections {
        self.part::<Option<HeldConnections>>().take().unwrap_or_default()
    }
}
