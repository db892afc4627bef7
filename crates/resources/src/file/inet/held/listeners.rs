//! Those that listen, and what waits for them to accept it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dormouse_kernel::netfilter::Ends;
use dormouse_kernel::sock_diag::SockDiag;
use dormouse_kernel::socket::SocketOption;
use epoll_interest::kernel_memory::OpenError;

use super::{HeldConnections, LISTEN, listed};
use crate::file::inet::inside::Inside;
use crate::file::inet::listing::Listing;
use crate::file::inet::options::{Kind, TCP};
use crate::file::inet::unaccepted::{Child, Unkept, check_settings};
use crate::file::{CollectCx, FileId, NetworkLock};
use crate::{Error, Result};

/// How long handshakes may take that have begun when nobody new gets in any more.
/// The kernel answers again after a second.
const HANDSHAKES: Duration = Duration::from_millis(1200);

/// Those that listen: their files, and what they wait at.
pub(super) type Listeners = BTreeMap<FileId, (OwnedFd, Kind, SocketAddr)>;

impl HeldConnections {
    /// Lets nobody in any more who asks those that listen, and waits for those
    /// who have been answered: whoever came in when the others are read would be
    /// lost. They ask again.
    pub(super) fn close_doors(&mut self, cx: &CollectCx<'_>) -> Result<Listeners> {
        let mut listeners = Listeners::new();
        for protocol in [TCP, libc::IPPROTO_MPTCP] {
            for (probe, kind, listed) in listed(cx, protocol)? {
                if listed.state == LISTEN {
                    listeners.insert(probe.id, (probe.duplicate()?, kind, listed.local));
                }
            }
        }
        if listeners.is_empty() {
            return Ok(listeners);
        }
        if let Some(table) = self.table(cx)? {
            table.close_doors(listeners.values().map(|(_, _, local)| *local))?;
        }
        let mut listing = cx.part::<Listing>();
        let inside = listing.inside().map_err(Error::InetReader)?;
        self.deferring = deferring(inside, &listeners)?;
        let Some(table) = &self.table else { return Ok(listeners) };
        let sockets: Vec<_> = listeners
            .iter()
            .filter(|(id, it)| it.1.protocol == TCP && !self.deferring.contains(id))
            .map(|(_, it)| it.0.as_fd())
            .collect();
        let since = Instant::now();
        let mut pause = Duration::from_micros(100);
        while inside.are_shaking_hands(&sockets).map_err(Error::InetReader)? {
            if since.elapsed() > HANDSHAKES {
                // Their peers are gone, or hear nothing: they may ask again later.
                table.lock(half_open(&listeners)?)?;
                break;
            }
            sleep(pause);
            pause = (2 * pause).min(HANDSHAKES / 10);
        }
        if !cx.options.skip_in_flight && inside.open_queues().is_ok() {
            let asking = inside.requests(&self.deferring(&listeners));
            let asking = asking.map_err(Error::InetReader)?.unwrap_or_default();
            let asking: Vec<_> = asking.values().flatten().map(Child::ends).collect();
            if !asking.is_empty() {
                table.lock(asking)?;
            }
        }
        // What is listed is from before.
        listing.forget();
        Ok(listeners)
    }

    /// Those that keep connections back, each with whether it is of IPv6.
    fn deferring<'a>(&self, listeners: &'a Listeners) -> Vec<(BorrowedFd<'a>, bool)> {
        let of = |id| listeners.get(id).map(|(socket, kind, _)| (socket.as_fd(), kind.is_v6()));
        self.deferring.iter().filter_map(of).collect()
    }

    /// Reads what is kept back, whose packets are held up.
    pub(super) fn add_deferred(&mut self, cx: &CollectCx<'_>, listeners: &Listeners) -> Result<()> {
        if self.deferring.is_empty() || cx.options.skip_in_flight {
            return Ok(());
        }
        let mut listing = cx.part::<Listing>();
        let kept = match can_be_made(cx, &mut listing)? {
            Ok(inside) => {
                let requests = inside.requests(&self.deferring(listeners));
                requests.map_err(Error::InetReader)?.map_err(Unkept::Child)
            }
            Err(unkept) => Err(unkept),
        };
        for child in kept.iter().flat_map(|kept| kept.values().flatten()) {
            self.hold(child.ends());
        }
        for (place, id) in self.deferring.iter().enumerate() {
            let Some(waiting) = self.listeners.get_mut(id) else { continue };
            match (&kept, &mut waiting.kept) {
                (Ok(requests), Ok(kept)) => {
                    kept.extend(requests.get(&place).into_iter().flatten().cloned())
                }
                (Err(unkept), kept) => *kept = Err(*unkept),
                (Ok(_), Err(_)) => {}
            }
        }
        Ok(())
    }
}

/// Those that listen, and keep connections back until something is sent on them,
/// as long as there are such.
fn deferring(inside: &mut Inside, listeners: &Listeners) -> Result<BTreeSet<FileId>> {
    let mut found = BTreeSet::new();
    for (&id, (socket, kind, _)) in listeners {
        if kind.protocol == TCP && keeps_back(inside, socket.as_fd())? {
            found.insert(id);
        }
    }
    Ok(found)
}

/// Those who have been answered by the kernel for those that listen, and have not
/// said that they know.
fn half_open(listeners: &Listeners) -> Result<Vec<Ends>> {
    const SYN_RECV: u8 = 3;
    let diag = SockDiag::open()?;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for listed in diag.inet(family, TCP)? {
            let is_here = |at: &SocketAddr| at.port() == listed.local.port();
            if listed.state == SYN_RECV && listeners.values().any(|(_, _, at)| is_here(at)) {
                found.push(Ends { local: listed.local, remote: listed.remote });
            }
        }
    }
    Ok(found)
}

/// Reads what waits to be accepted, whose packets are held up.
pub(super) fn children(
    cx: &CollectCx<'_>,
    listener: BorrowedFd<'_>,
    kind: Kind,
) -> Result<Result<Vec<Child>, Unkept>> {
    let mut listing = cx.part::<Listing>();
    match can_be_made(cx, &mut listing)? {
        Ok(inside) => {
            let children = inside.children(listener, kind.is_v6()).map_err(Error::InetReader)?;
            Ok(children.map_err(Unkept::Child))
        }
        Err(unkept) => Ok(Err(unkept)),
    }
}

/// What reads those that can be made again.
fn can_be_made<'a>(
    cx: &CollectCx<'_>,
    listing: &'a mut Listing,
) -> Result<Result<&'a mut Inside, Unkept>> {
    if cx.options.network_lock == NetworkLock::Skip {
        return Ok(Err(Unkept::NoLock));
    }
    let inside = listing.inside().map_err(Error::InetReader)?;
    match inside.open_queues() {
        Ok(_) => {}
        // This kernel is an older one.
        Err(OpenError::Btf(_)) => return Ok(Err(Unkept::Kernel)),
        Err(error) => return Err(Error::InetReader(error.into())),
    }
    Ok(check_settings().map(|()| inside))
}

/// Whether a socket that listens keeps connections back.
fn keeps_back(inside: &mut Inside, socket: BorrowedFd<'_>) -> Result<bool> {
    const DEFER: SocketOption = SocketOption::new(TCP, libc::TCP_DEFER_ACCEPT);
    let defers = DEFER.get(socket).map_err(Error::kernel("TCP_DEFER_ACCEPT", "a socket"))? != 0;
    Ok(defers && inside.are_shaking_hands(&[socket]).map_err(Error::InetReader)?)
}

impl CollectCx<'_> {
    /// Whether a socket that listens keeps connections back until something is
    /// sent on them.
    pub(in crate::file::inet) fn keeps_back(&self, socket: BorrowedFd<'_>) -> Result<bool> {
        let mut listing = self.part::<Listing>();
        keeps_back(listing.inside().map_err(Error::InetReader)?, socket)
    }
}
