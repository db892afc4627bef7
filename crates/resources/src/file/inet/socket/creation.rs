//! How a new socket becomes what it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::Duration;

use dormouse_kernel::Errno;
use dormouse_kernel::socket::SocketOption;
use rustix::net::{Shutdown, bind, connect, listen, shutdown};

use super::state::{kernel, option};
use super::{Inet, State};
use crate::file::Created;
use crate::file::inet::datagrams::Receiver;
use crate::file::inet::ended::refuse_datagram;
use crate::file::inet::held::canonical;
use crate::file::inet::leftovers::end_leftovers;
use crate::file::inet::options::Moment;
use crate::file::inet::unaccepted::admit;
use crate::file::taken::once_free;
use crate::{Error, Result};

/// Has sockets, all of them with nothing done to them yet, become what they are.
pub(super) fn fill_contents(files: &[Created<'_, Inet>]) -> Result<()> {
    // A program that chooses among them knows them by their order.
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by_key(|socket| socket.kind.selection.as_ref().map(|chosen| chosen.place));
    let (mut sharing, mut listening, mut crowds) = (Ports::new(), Ports::new(), Ports::new());
    for Created { kind: socket, .. } in &files {
        if let Some(port) = socket.port() {
            let listens = matches!(socket.state, State::Listening { .. });
            *sharing.entry(port).or_default() += usize::from(!socket.was_connected());
            *listening.entry(port).or_default() += usize::from(listens);
            *crowds.entry(port).or_default() += usize::from(socket.is_early());
        }
    }
    let several = |ports: &Ports, socket: &Inet| socket.port().is_some_and(|at| ports[&at] > 1);
    // As long as nobody else has the port, datagrams come to those they are
    // for.
    let (first, others): (Vec<_>, Vec<_>) =
        files.iter().copied().partition(|socket| socket.kind.is_early());
    for Created { kind: socket, file, .. } in first.into_iter().chain(others) {
        socket.options.apply(*file)?;
        if several(&sharing, socket) {
            share(*file, several(&listening, socket))?;
        }
        socket.bind(*file)?;
        socket.receive(*file, several(&crowds, socket))?;
    }
    for Created { kind: socket, file, .. } in &files {
        if let State::Listening { backlog, waiting } = &socket.state {
            // It may be that fewer may wait by now.
            let room = (*backlog).max(waiting.len() as u32);
            socket.listen(*file, room)?;
        }
    }
    for Created { kind: socket, file, .. } in &files {
        if several(&sharing, socket) {
            socket.share_no_more(*file)?;
        }
        socket.open(*file)?;
    }
    // They are accepted in the order in which they come.
    files.sort_by_key(|socket| socket.kind.place());
    for Created { kind: socket, file, .. } in &files {
        socket.call(*file)?;
    }
    files.iter().try_for_each(|Created { kind: socket, file, .. }| socket.finish(*file))?;
    // They take after whom they come to, which is finished.
    files.iter().try_for_each(|Created { kind: socket, file, .. }| socket.have_waiting(*file))
}

/// Has connections go on. Those that ask one of the tree that has no room for all of them do so one after the
/// other: they ask again after a second, and the kernel forgets whom it has answered when it is asked by several at
/// once (`want_cookie` in `tcp_conn_request`, `net/ipv4/tcp_input.c`).
pub(super) fn go_on_all(files: &[Created<'_, Inet>]) -> Result<()> {
    /// Their timers are told apart (`kernel/time/timer.c`: `LVL_GRAN`).
    const APART: Duration = Duration::from_millis(80);
    /// All have asked before the first does again.
    const ALL: Duration = Duration::from_secs(1);
    let mut rooms: BTreeMap<u16, Vec<(SocketAddr, usize)>> = BTreeMap::new();
    let mut asked: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for Created { kind: socket, .. } in files {
        if let (State::Listening { backlog, .. }, Some(local)) = (&socket.state, socket.local) {
            let rooms = rooms.entry(local.port()).or_default();
            rooms.push((canonical(local), *backlog as usize));
        }
        if let Some(remote) = socket.asks() {
            *asked.entry(remote).or_default() += 1;
        }
    }
    asked.retain(|remote, number| {
        let hears = |local: &SocketAddr| local.ip().is_unspecified() || local.ip() == remote.ip();
        let rooms = rooms.get(&remote.port());
        let mut rooms = rooms.into_iter().flatten().filter(|(local, _)| hears(local));
        *number > 1 && rooms.any(|(_, room)| room < number)
    });
    let all: usize = asked.values().sum();
    for Created { kind: socket, file, .. } in files {
        socket.go_on(*file)?;
        if socket.asks().is_some_and(|remote| asked.contains_key(&remote)) {
            sleep(APART.min(ALL / u32::try_from(all).unwrap_or(u32::MAX)));
        }
    }
    Ok(())
}

/// How many sockets have a port of a protocol.
type Ports = BTreeMap<(i32, u16), usize>;

impl Inet {
    fn port(&self) -> Option<(i32, u16)> {
        self.local.map(|local| (self.kind.protocol, local.port()))
    }

    /// Whether it is bound before others.
    fn is_early(&self) -> bool {
        !self.queue.is_empty() || self.selection.is_some()
    }

    /// Has it share its port on the terms that its program has set.
    fn share_no_more(&self, file: BorrowedFd<'_>) -> Result<()> {
        for (name, own) in [
            (libc::SO_REUSEADDR, self.options.reuses_address()),
            (libc::SO_REUSEPORT, self.options.reuses_port()),
        ] {
            if !own {
                option(name).set(file, 0).map_err(kernel("SO_REUSEADDR"))?;
            }
        }
        Ok(())
    }

    /// Binds it to its address, and has it join groups.
    fn bind(&self, file: BorrowedFd<'_>) -> Result<()> {
        self.protocol_options.apply(file, Moment::Early)?;
        if let Some(index) = self.multicast_interface {
            send_to_groups_by(file, index).map_err(kernel("IP_MULTICAST_IF"))?;
        }
        if let Some(local) = self.local.filter(|_| self.takes_address() && !self.was_connected()) {
            // What is left of connections that have ended may still have the
            // port.
            let reuse = self.kind.is_stream().then(|| option(libc::SO_REUSEADDR));
            let bind = || self.once_left(local, || bind(file, &local));
            let bound = with(reuse, file, bind);
            let bound = bound.or_else(|error| match error {
                // It was bound while it was free to be bound to any address,
                // or the machine had this one.
                Errno::ADDRNOTAVAIL => {
                    let level =
                        if self.kind.is_v6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
                    let name =
                        if self.kind.is_v6() { libc::IPV6_FREEBIND } else { libc::IP_FREEBIND };
                    let free = SocketOption { level, name };
                    with(Some(free), file, || with(reuse, file, bind))
                }
                error => Err(error),
            });
            bound.map_err(Error::kernel("bind", local.to_string()))?;
        }
        self.memberships.iter().try_for_each(|membership| membership.join(file))
    }

    /// Has it listen, with room for so many.
    fn listen(&self, file: BorrowedFd<'_>, room: u32) -> Result<()> {
        let listen = || listen(file, room.cast_signed());
        let listened = self.local.map_or_else(listen, |local| self.once_left(local, listen));
        listened.map_err(kernel("listen"))
    }

    /// Makes a call that takes an address once what is left of others does not have it any more.
    fn once_left(
        &self,
        local: SocketAddr,
        mut call: impl FnMut() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        once_free(Errno::ADDRINUSE, || {
            call().inspect_err(|&error| {
                if error == Errno::ADDRINUSE && self.kind.is_stream() {
                    end_leftovers(local);
                }
            })
        })
    }

    /// Puts back what was in its queue.
    fn receive(&self, file: BorrowedFd<'_>, is_crowded: bool) -> Result<()> {
        let Some(local) = self.local.filter(|_| !self.queue.is_empty()) else { return Ok(()) };
        self.options.widen(file)?;
        let device = self.options.device.as_deref();
        let receiver = Receiver { file, kind: self.kind, local, device, is_crowded };
        self.queue.iter().try_for_each(|datagram| receiver.deliver(datagram))
    }

    /// A raw socket has its protocol in place of a port, and is bound by its
    /// address alone.
    fn takes_address(&self) -> bool {
        !self.kind.is_raw() || self.local.is_some_and(|local| !local.ip().is_unspecified())
    }

    /// Whether it is, or was, a connection of TCP.
    fn was_connected(&self) -> bool {
        matches!(self.state, State::Open(_) | State::Lost { .. })
    }

    /// If it is an open connection, its `SO_REUSEADDR`.
    pub(in crate::file) fn as_connection(&self) -> Option<bool> {
        matches!(self.state, State::Open(_)).then(|| self.options.reuses_address())
    }

    /// Whether others wait for it to accept them, whose other ends are not
    /// restored with it.
    pub(in crate::file) fn has_waiting(&self) -> bool {
        matches!(&self.state, State::Listening { waiting, .. } if !waiting.is_empty())
    }

    /// The ends of connections that it keeps back, its own last.
    pub(in crate::file) fn kept_back(&self) -> impl Iterator<Item = [SocketAddr; 2]> {
        let waiting = match &self.state {
            State::Listening { waiting, .. } => &waiting[..],
            _ => &[],
        };
        let kept_back = waiting.iter().filter(|child| child.is_deferred);
        kept_back.map(|child| [child.remote, child.local].map(canonical))
    }

    /// Has those come who wait for it to accept them.
    fn have_waiting(&self, file: BorrowedFd<'_>) -> Result<()> {
        match &self.state {
            State::Listening { backlog, waiting } if !waiting.is_empty() => {
                admit(waiting, file)?;
                listen(file, backlog.cast_signed()).map_err(kernel("listen"))
            }
            _ => Ok(()),
        }
    }

    /// Opens its connection, or has that end.
    fn open(&self, file: BorrowedFd<'_>) -> Result<()> {
        if let State::Ended(ended) = &self.state {
            self.options.widen(file)?;
            ended.bring_about(file, (self.kind, self.local))?;
            return self.options.narrow(file);
        }
        let (State::Open(connection), Some(local)) = (&self.state, self.local) else {
            return Ok(());
        };
        if connection.place.is_some() {
            return Ok(());
        }
        connection.open(file, local)?;
        self.options.widen(file)?;
        connection.fill(file)
    }

    /// Its place among those that wait to be accepted.
    fn place(&self) -> Option<u32> {
        match &self.state {
            State::Open(connection) => connection.place,
            _ => None,
        }
    }

    /// Connects it, if its other end waits to be accepted.
    fn call(&self, file: BorrowedFd<'_>) -> Result<()> {
        match (&self.state, self.local) {
            (State::Open(connection), Some(local)) if connection.place.is_some() => {
                connection.call(file, local)
            }
            _ => Ok(()),
        }
    }

    /// Whom it asks for a connection, if it does.
    fn asks(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Open(connection) if connection.asks() => Some(canonical(connection.remote)),
            _ => None,
        }
    }

    /// Has a connection go on, as far as that can be done under repair.
    fn go_on(&self, file: BorrowedFd<'_>) -> Result<()> {
        let State::Open(connection) = &self.state else { return Ok(()) };
        self.protocol_options.apply(file, Moment::Late)?;
        connection.go_on(file, || {
            self.protocol_options.unbind(file)?;
            self.options.widen(file)
        })?;
        self.protocol_options.apply(file, Moment::Bound)?;
        self.options.finish(file)?;
        connection.await_room(file)
    }

    /// Connects it, and does what is done when all is queued.
    fn finish(&self, file: BorrowedFd<'_>) -> Result<()> {
        match (&self.state, self.local) {
            (State::Connected { remote, refused }, local) => {
                if *refused {
                    refuse_datagram(file, (self.kind, local))?;
                }
                connect(file, remote).map_err(Error::kernel("connect", remote.to_string()))?;
            }
            (State::Open(connection), Some(local)) => {
                connection.finish(file, local)?;
                // Before anybody watches it.
                self.protocol_options.apply(file, Moment::Bound)?;
                self.options.narrow(file)?;
            }
            (State::Lost { .. }, _) => shut(file, Shutdown::Both)?,
            _ => {}
        }
        let by_itself = matches!(self.state, State::Listening { .. } | State::Ended(_));
        if let Some(how) = self.shutdown.filter(|_| !by_itself) {
            shut(file, how)?;
        }
        if matches!(self.state, State::Open(_)) {
            return Ok(());
        }
        self.reports.come(file, self.local)?;
        self.protocol_options.apply(file, Moment::Late)?;
        self.protocol_options.apply(file, Moment::Bound)?;
        if let Some(selection) = &self.selection {
            selection.apply(file)?;
        }
        self.options.finish(file)
    }
}

/// Has a socket share its port with others of the tree, which may have come to
/// that in any way; all that listen at once, if `port`.
fn share(file: BorrowedFd<'_>, port: bool) -> Result<()> {
    option(libc::SO_REUSEADDR).set(file, 1).map_err(kernel("SO_REUSEADDR"))?;
    if port {
        option(libc::SO_REUSEPORT).set(file, 1).map_err(kernel("SO_REUSEPORT"))?;
    }
    Ok(())
}

fn shut(file: BorrowedFd<'_>, how: Shutdown) -> Result<()> {
    match shutdown(file, how) {
        // So it says of one that is not connected, and does it.
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(source) => Err(kernel("shutdown")(source)),
    }
}

/// Does what a socket can do only with an option set, which it need not have of
/// its own.
fn with(
    option: Option<SocketOption>,
    file: BorrowedFd<'_>,
    does: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let Some(option) = option else { return does() };
    let own = option.get(file)?;
    if own != 0 {
        return does();
    }
    option.set(file, 1)?;
    let done = does();
    option.set(file, 0)?;
    done
}

/// Has a socket of IPv4 send to groups by an interface, from the address that
/// was set before.
fn send_to_groups_by(socket: BorrowedFd<'_>, index: u32) -> Result<(), Errno> {
    let option = SocketOption::new(libc::IPPROTO_IP, libc::IP_MULTICAST_IF);
    // struct ip_mreqn: group, address, interface. The kernel tells the address.
    let mut request = [[0; 4], [0; 4], index.to_ne_bytes()];
    option.get_into(socket, &mut request[1])?;
    option.set_bytes(socket, request.as_flattened())
}
