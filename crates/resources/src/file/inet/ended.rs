//! What a connection of TCP that has ended has left for its program: bytes it has not
//! read, and the error it was not told; and that nobody takes the datagrams of a
//! socket of UDP.
//!
//! Kernel object: `sk_receive_queue`, `sk_err`.
//! Truth from: `recv(2)`, peeking; for the error the kernel's memory, for whoever asks
//! by a call (`SO_ERROR`) takes it.
//! Fill: a connection on this host that ends in the same way, with the bytes put into
//! its queue under repair; a datagram to where nobody is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use dormouse_kernel::Errno;
use dormouse_kernel::socket::SocketOption;
use dormouse_kernel::tcp::{self, Repair};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    SendFlags, Shutdown, accept, bind, connect, getsockname, listen, send, shutdown,
};

use super::connected::is_hung_up;
use super::connection::{ask, enqueue, unread};
use super::inside::Pending;
use super::listing::{Listing, make};
use super::options::{Kind, TCP};
use super::segment::{self, Segment, Sort};
use super::socket::{address, kernel, refuse};
use crate::file::{CollectCx, Probe};
use crate::{Error, Result};

/// A connection that has ended, or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    end: End,
    /// Whether its program was told what it has ended with, or there was nothing to
    /// be told.
    told: bool,
    /// Whether the last that its program was told by `connect` is that this
    /// takes its time.
    connecting: bool,
    /// What its program has not read.
    unread: Vec<u8>,
}

/// How it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nobody listened.
    Refused,
    /// The peer has reset it.
    Reset,
    /// The peer has reset it, and had said before that nothing more comes.
    Broken,
    /// The peer did not answer.
    TimedOut,
}

/// How long a connection of this host with itself may take: what times out does
/// so after 200 ms.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Returns once something has happened to the socket.
pub(super) fn await_event(socket: BorrowedFd<'_>, events: PollFlags) -> Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(socket, events)], Some(&PATIENCE)) {
        Ok(0) => Err(kernel("poll")(Errno::TIME)),
        Ok(_) => Ok(()),
        Err(source) => Err(kernel("poll")(source)),
    }
}

/// Whether there is something to be told: an error, or a notice of one.
pub(super) fn has_something_to_tell(socket: BorrowedFd<'_>) -> Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).map_err(kernel("poll"))?;
    Ok(polled[0].revents().contains(PollFlags::ERR))
}

impl End {
    const ALL: [Self; 4] = [Self::Refused, Self::Reset, Self::Broken, Self::TimedOut];

    /// The number of the error.
    const fn number(self) -> u32 {
        let error = match self {
            Self::Refused => libc::ECONNREFUSED,
            Self::Reset => libc::ECONNRESET,
            Self::Broken => libc::EPIPE,
            Self::TimedOut => libc::ETIMEDOUT,
        };
        error.cast_unsigned()
    }
}

impl Ended {
    fn of((error, connecting): (u32, bool), unread: Vec<u8>) -> Option<Self> {
        let told = error == 0;
        let may_be_refused = connecting && unread.is_empty();
        let end = match told {
            // What with makes no difference any more.
            true if may_be_refused => End::Refused,
            true => End::Reset,
            false => End::ALL.into_iter().find(|end| end.number() == error)?,
        };
        let possible = may_be_refused || end != End::Refused;
        possible.then_some(Self { end, told, connecting, unread })
    }

    /// As images have it: the error's number, or zero for none; whether it is being
    /// connected; and what is left to be read.
    pub(super) fn encode(&self) -> ((u32, bool), Vec<u8>) {
        let Self { end, told, connecting, unread } = self;
        ((if *told { 0 } else { end.number() }, *connecting), unread.clone())
    }

    /// Judges what an image has.
    pub(super) fn decode(told: (u32, bool), unread: Vec<u8>) -> Result<Self, &'static str> {
        Self::of(told, unread).ok_or("no connection can be made to end as it did")
    }

    /// Reads it, of a socket that is closed.
    pub(super) fn collect(
        cx: &CollectCx<'_>,
        probe: &Probe,
        (socket, kind): (BorrowedFd<'_>, Kind),
    ) -> Result<Option<Self>> {
        let unread = match kind.protocol {
            TCP => unread(socket)?,
            _ => Vec::new(),
        };
        let is_over = unread.is_empty() && !has_something_to_tell(socket)?;
        if is_over && !is_hung_up(socket)? {
            return Ok(None);
        }
        let mut listing = cx.part::<Listing>();
        let inside = listing.inside().map_err(Error::InetReader)?;
        let inner = inside.inner_states(&[socket]).map_err(Error::InetReader)?;
        if kind.protocol == TCP && inner.iter().any(|inner| inner.urgent.is_some()) {
            return Err(refuse(
                probe,
                "a byte out of band (MSG_OOB) waits in a TCP connection that has ended, and would be \
                 lost",
                "dump again when the program has read it",
            ));
        }
        let Pending { error, alone: _, connecting, connected, closed } =
            inside.pending(socket).map_err(Error::InetReader)?;
        // A connection of this host with itself can be had in few ways.
        let possible = closed && has_no_device(socket) && kind.protocol == TCP;
        let possible = possible && (connecting || connected);
        match Self::of((error, connecting), unread).filter(|_| possible) {
            Some(ended) => Ok(Some(ended)),
            None if is_over => Ok(None),
            None => Err(refuse(
                probe,
                "it has an error to tell, which cannot be put back",
                "dump again when the program has read it",
            )),
        }
    }

    /// Has a new socket, bound to `local` and with room for what is left to be read, end
    /// like this.
    pub(super) fn bring_about(
        &self,
        socket: BorrowedFd<'_>,
        (kind, local): (Kind, Option<SocketAddr>),
    ) -> Result<()> {
        let here = local.map(|local| local.ip()).filter(|ip| !ip.is_unspecified());
        let here = here.unwrap_or(match kind.is_v6() {
            true => IpAddr::from(Ipv6Addr::LOCALHOST),
            false => Ipv4Addr::LOCALHOST.into(),
        });
        let peer = make(kind).map_err(kernel("socket"))?;
        bind(&peer, &SocketAddr::new(here, 0)).map_err(kernel("bind"))?;
        if self.end != End::Refused {
            listen(&peer, 1).map_err(kernel("listen"))?;
        }
        let there = address(Some(getsockname(&peer).map_err(kernel("getsockname"))?));
        let there = there.ok_or_else(|| kernel("getsockname")(Errno::ADDRNOTAVAIL))?;
        // A call that waits would be told, and nobody after it.
        ask(socket, there)?;
        if self.end != End::Refused {
            await_event(peer.as_fd(), PollFlags::IN)?;
            await_event(socket, PollFlags::OUT)?;
            if !self.connecting {
                // It tells that it is connected.
                ask(socket, there)?;
            }
            let peer = accept(&peer).map_err(kernel("accept"))?;
            match self.unread.is_empty() {
                true => self.end.come(socket, peer.as_fd())?,
                false => self.come_unread((socket, there), peer.as_fd())?,
            }
        }
        await_event(socket, PollFlags::empty())?;
        if self.told {
            // Whoever asks is told, and nobody after that.
            SocketOption::of_socket(libc::SO_ERROR).get(socket).map_err(kernel("SO_ERROR"))?;
        }
        Ok(())
    }

    /// Has a connection end with something left to be read. Its peer knows nothing of
    /// that, and could say nothing that would be heeded.
    fn come_unread(
        &self,
        (socket, there): (BorrowedFd<'_>, SocketAddr),
        peer: BorrowedFd<'_>,
    ) -> Result<()> {
        let (received_to, sent_to) = enqueue(socket, &self.unread)?;
        let own = address(Some(getsockname(socket).map_err(kernel("getsockname"))?));
        let segment = Segment {
            from: there,
            to: own.ok_or_else(|| kernel("getsockname")(Errno::ADDRNOTAVAIL))?,
            sequence: received_to,
            acknowledged: sent_to,
            window: u16::MAX,
            sort: Sort::Resets,
            options: &[],
            bytes: &[],
            priority: 0,
        };
        match self.end {
            End::TimedOut => self.end.come(socket, peer)?,
            End::Broken => {
                segment::inject(Segment { sort: Sort::Finishes, ..segment })?;
                await_event(socket, PollFlags::RDHUP)?;
                let sequence = received_to.wrapping_add(1);
                segment::inject(Segment { sequence, ..segment })?;
            }
            End::Refused | End::Reset => segment::inject(segment)?,
        }
        tcp::repair(peer, Repair::On).map_err(kernel("TCP_REPAIR"))
    }
}

/// Whether a connected socket of UDP has to tell that nobody takes its datagrams,
/// and nothing else.
pub(super) fn is_refused(
    listing: &mut Listing,
    socket: BorrowedFd<'_>,
    (kind, local): (Kind, Option<SocketAddr>),
) -> Result<bool> {
    // From there, a datagram is to be sent to this host.
    let here = local.map(|local| local.ip().to_canonical());
    let possible = here.is_some_and(|ip| !ip.is_unspecified() && !ip.is_multicast());
    if kind.protocol != libc::IPPROTO_UDP || !possible || !has_something_to_tell(socket)? {
        return Ok(false);
    }
    let inside = listing.inside().map_err(Error::InetReader)?;
    let Pending { error, alone, .. } = inside.pending(socket).map_err(Error::InetReader)?;
    Ok(error == REFUSED && alone && has_no_device(socket))
}

/// What images have of a socket that [`is_refused`].
pub(super) const REFUSED: u32 = libc::ECONNREFUSED.cast_unsigned();

/// Has a datagram refused that a socket sends from its address, which has to be
/// connected to its peer then.
pub(super) fn refuse_datagram(
    socket: BorrowedFd<'_>,
    (kind, local): (Kind, Option<SocketAddr>),
) -> Result<()> {
    let local = local.ok_or_else(|| kernel("bind")(Errno::DESTADDRREQ))?;
    let peer = make(kind).map_err(kernel("socket"))?;
    bind(&peer, &at_some_port(local)).map_err(kernel("bind"))?;
    let there = address(Some(getsockname(&peer).map_err(kernel("getsockname"))?));
    let there = there.ok_or_else(|| kernel("getsockname")(Errno::ADDRNOTAVAIL))?;
    // So it has the port, and takes nothing from others.
    connect(&peer, &there).map_err(kernel("connect"))?;
    connect(socket, &there).map_err(kernel("connect"))?;
    send(socket, b"?", SendFlags::NOSIGNAL).map_err(kernel("send"))?;
    await_event(socket, PollFlags::empty())
}

fn at_some_port(mut address: SocketAddr) -> SocketAddr {
    address.set_port(0);
    address
}

/// Whether a socket may send to its own host: not by a device of its own.
fn has_no_device(socket: BorrowedFd<'_>) -> bool {
    let device = SocketOption::of_socket(libc::SO_BINDTODEVICE);
    device.get_into(socket, &mut [0; 16]) == Ok(0)
}

impl End {
    /// Has a connection end, but for the peer's being closed.
    fn come(self, socket: BorrowedFd<'_>, peer: BorrowedFd<'_>) -> Result<()> {
        match self {
            Self::Refused | Self::Reset => {}
            Self::Broken => {
                shutdown(peer, Shutdown::Write).map_err(kernel("shutdown"))?;
                await_event(socket, PollFlags::RDHUP)?;
            }
            Self::TimedOut => {
                // BPF_RET: nothing of any segment gets through.
                SocketOption::of_socket(libc::SO_ATTACH_FILTER)
                    .set_filter(peer, &[[6, 0, 0, 0, 0, 0, 0, 0]])
                    .map_err(kernel("SO_ATTACH_FILTER"))?;
                let patience = SocketOption::new(TCP, libc::TCP_USER_TIMEOUT);
                let own = patience.get(socket).map_err(kernel("TCP_USER_TIMEOUT"))?;
                patience.set(socket, 1).map_err(kernel("TCP_USER_TIMEOUT"))?;
                send(socket, b"?", SendFlags::NOSIGNAL).map_err(kernel("send"))?;
                await_event(socket, PollFlags::empty())?;
                patience.set(socket, own).map_err(kernel("TCP_USER_TIMEOUT"))?;
            }
        }
        // Closed like this, it is reset.
        let at_once = [1_u32, 0].map(u32::to_ne_bytes);
        SocketOption::of_socket(libc::SO_LINGER)
            .set_bytes(peer, at_once.as_flattened())
            .map_err(kernel("SO_LINGER"))
    }
}
